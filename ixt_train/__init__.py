"""Training on critique + document with Composer: conditioning, stream, training, evaluation."""
