// Package grpchealth serves what a [services.HealthChecker] knows as the
// standard gRPC health service, grpc.health.v1.Health, for probes and for the
// health checking of gRPC clients.
package grpchealth

import (
	"maps"

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/reprise-go/reprise/services"
)

// New returns a health server that follows the checker. Register it on a
// [google.golang.org/grpc.Server] with grpc_health_v1.RegisterHealthServer.
//
// The name of a service that the checker watches is SERVING while the service
// is ready. The empty name stands for the program: it is SERVING while every
// service is ready. Everything is NOT_SERVING before the first poll of the
// checker has ended, after its Drain and after its Close; the last two are
// final. A service that was unregistered becomes SERVICE_UNKNOWN. Clients that
// Watch hear of a change when the checker does, at its next poll.
//
// The server lives as long as the checker and has nothing to close. Statuses
// set on it by others are overwritten.
func New(c *services.HealthChecker) *health.Server {
	s := health.NewServer()
	f := &follower{server: s, known: make(map[string]struct{})}
	c.Subscribe(f.follow)
	return s
}

// follower carries the checker's status over to the server. Its calls come one
// at a time.
type follower struct {
	server *health.Server
	known  map[string]struct{}
	ran    bool
}

func (f *follower) follow(status services.HealthStatus) {
	if status.Draining || (f.ran && !status.Running) {
		f.server.Shutdown()
		return
	}
	f.ran = status.Running
	all := status.Running
	for name, err := range status.Ready {
		f.known[name] = struct{}{}
		f.server.SetServingStatus(name, serving(err == nil && status.Running))
		all = all && err == nil
	}
	f.server.SetServingStatus("", serving(all))
	maps.DeleteFunc(f.known, func(name string, _ struct{}) bool {
		_, stays := status.Ready[name]
		if !stays {
			f.server.SetServingStatus(name, healthpb.HealthCheckResponse_SERVICE_UNKNOWN)
		}
		return !stays
	})
}

func serving(ok bool) healthpb.HealthCheckResponse_ServingStatus {
	if ok {
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}
