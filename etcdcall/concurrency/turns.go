package concurrency

import "context"

// turns lets one at a time do something that takes long. Who waits for a turn gives
// up with its context.
type turns chan struct{}

func newTurns() turns { return make(turns, 1) }

// take takes the next turn, whose end must follow. A turn that is free is taken
// also if ctx has ended.
func (t turns) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	default:
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turns) end() { <-t }
