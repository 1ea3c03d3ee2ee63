"""How weights travel from the learner to the engines, and the receipts that prove they arrived."""
