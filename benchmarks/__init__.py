"""Load for any HTTP service that ranks: an open-loop generator, its figures, its pictures. Talks HTTP only."""
