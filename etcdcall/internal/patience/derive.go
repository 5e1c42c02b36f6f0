package patience

import "context"

// cancelKey is the key under which package context looks for a context of its own
// that can be cancelled, to add another to it. It is nil if that is not how it does
// that, or if it does not ask the parent's AfterFunc when it finds none.
var cancelKey = func() *int {
	p := &prober{Context: context.Background(), done: make(chan struct{})}
	_, cancel := context.WithCancel(p)
	defer cancel()
	key, ok := p.key.(*int)
	if !ok || !p.asked {
		return nil
	}
	return key
}()

// IsCancelKey reports whether key is the one under which package context looks for a
// context that can be cancelled.
func IsCancelKey(key any) bool {
	k, ok := key.(*int)
	return ok && k == cancelKey
}

// isReusable reports whether to listen for the end of ctx, whose Done is done, costs no
// goroutine.
func isReusable(ctx context.Context, done <-chan struct{}) bool {
	own, ok := ctx.Value(cancelKey).(context.Context)
	return ok && own.Done() == done
}

type prober struct {
	context.Context

	done  chan struct{}
	key   any
	asked bool
}

// Done implements context.Context.
func (p *prober) Done() <-chan struct{} { return p.done }

// Value notes the key.
func (p *prober) Value(key any) any {
	p.key = key
	return nil
}

// AfterFunc notes that it was called.
func (p *prober) AfterFunc(func()) (stop func() bool) {
	p.asked = true
	return stopped
}
