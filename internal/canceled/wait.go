package canceled

import "context"

// Receive waits for a value of a channel, or for the channel's end, until ctx ends.
func Receive[T any](ctx context.Context, from <-chan T) (v T, err error) {
	select {
	case v = <-from:
		return v, nil
	case <-ctx.Done():
		return v, Err(ctx)
	}
}

// Wait is Receive for channels whose values say nothing.
func Wait[T any](ctx context.Context, from <-chan T) error {
	_, err := Receive(ctx, from)
	return err
}

// Send waits until a channel takes a value, or until ctx ends.
func Send[T any](ctx context.Context, to chan<- T, v T) error {
	select {
	case to <- v:
		return nil
	case <-ctx.Done():
		return Err(ctx)
	}
}
