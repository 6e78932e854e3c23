"""What the machine offers: threads, BLAS, memory, signals; and words, trees and lazy attributes."""
