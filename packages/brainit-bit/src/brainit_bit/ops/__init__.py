"""Operations with a readable reference beside each fast form: one folder an operation."""
