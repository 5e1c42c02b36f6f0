package etcdtest

import (
	"sync"

	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
)

// servers are the gRPC servers of a member. An etcd server may be stopped only
// when no call is inside it: stopping closes its store, and a call that reads
// from a closed store dereferences a nil transaction (baseReadTx.UnsafeRange in
// etcd's storage/backend) or exits the process (backend.begin). etcd's HardStop
// does not know of the calls; embed.Etcd.Close ends them first, as this does.
type servers struct {
	mu      sync.Mutex
	running []*grpc.Server
	ended   bool
}

// watch makes etcd tell of its gRPC servers, which it makes some time after
// StartEtcd has returned, if it becomes ready.
func (s *servers) watch(cfg *embed.Config) {
	cfg.GRPCAdditionalServerOptions = append(cfg.GRPCAdditionalServerOptions, grpc.WaitForHandlers(true))
	register := cfg.ServiceRegister
	cfg.ServiceRegister = func(gs *grpc.Server) {
		if register != nil {
			register(gs)
		}
		s.add(gs)
	}
}

func (s *servers) add(gs *grpc.Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		gs.Stop()
	}
	s.running = append(s.running, gs)
}

// end cancels all calls and waits until they have returned. No call comes
// afterwards.
func (s *servers) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for _, gs := range s.running {
		gs.Stop()
	}
}
