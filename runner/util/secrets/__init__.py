"""What a secret is: names that say so, values of such names, and shapes that tokens have."""
