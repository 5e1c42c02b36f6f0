package etcdcall

import (
	"context"
	"sync"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/status"
)

// tokens fetches authentication tokens for one client.
//
// When a token expires, every call under way is refused, and clientv3 fetches a
// token for each of them, at the cost of a password hash and a raft proposal on
// the server. Here the attempts that began before a token was fetched share that
// token, and those that need one at the same time share one fetch.
type tokens struct {
	remote func(context.Context, *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error)

	mu      sync.Mutex
	last    authToken
	current *tokenFetch
}

// authToken is a token that was fetched.
type authToken struct {
	name, password string
	response       *pb.AuthenticateResponse
	began          uint64 // the moment at which its fetch began
}

// tokenFetch is one that is under way. Its fields are set before done is closed.
type tokenFetch struct {
	done   chan struct{}
	err    error
	gaveUp bool // its own context ended
}

// tokenClock orders the attempts and the fetches of tokens: it ticks when a
// fetch begins, and an attempt notes it before it is sent.
var tokenClock atomic.Uint64

func newTokens(p *policy, remote pb.AuthClient) *tokens {
	return &tokens{remote: func(ctx context.Context, req *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
		return remote.Authenticate(ctx, req, p.grpc...)
	}}
}

// fetch returns a token for name. If clientv3 asks for it in the name of an
// attempt that was refused, one that was fetched since will do.
func (t *tokens) fetch(ctx context.Context, name, password string) (*pb.AuthenticateResponse, error) {
	refused, _ := ctx.Value(attemptKey{}).(*attempt)
	if refused == nil {
		return t.remote(ctx, &pb.AuthenticateRequest{Name: name, Password: password})
	}
	for {
		t.mu.Lock()
		if l := &t.last; l.name == name && l.password == password && l.began > refused.tokenTime {
			t.mu.Unlock()
			return l.response, nil
		}
		f := t.current
		if f == nil {
			f = &tokenFetch{done: make(chan struct{})}
			t.current = f
			t.mu.Unlock()
			return t.fetchFor(ctx, f, name, password)
		}
		t.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		if f.err != nil && !f.gaveUp {
			return nil, f.err
		}
	}
}

// fetchFor fetches a token for all who wait for f.
func (t *tokens) fetchFor(ctx context.Context, f *tokenFetch, name, password string) (*pb.AuthenticateResponse, error) {
	began := tokenClock.Add(1)
	// The record is that of another RPC, and clientv3 may ask for a token even
	// for this one.
	own := context.WithValue(ctx, attemptKey{}, (*attempt)(nil))
	resp, err := t.remote(own, &pb.AuthenticateRequest{Name: name, Password: password})
	f.err, f.gaveUp = err, ctx.Err() != nil
	t.mu.Lock()
	if err == nil {
		t.last = authToken{name: name, password: password, response: resp, began: began}
	}
	t.current = nil
	t.mu.Unlock()
	close(f.done)
	return resp, err
}
