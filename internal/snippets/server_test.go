package snippets_test

import (
	"context"
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"
)

// connect serves health checks in memory and returns a connection to them, and a
// function that ends both.
func connect(h grpc_health_v1.HealthServer, opts ...grpc.DialOption) (*grpc.ClientConn, func()) {
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, h)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	conn, err := grpc.NewClient("passthrough:///memory", append(opts,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return listener.DialContext(ctx)
		}))...)
	if err != nil {
		log.Fatal(err) // the options are at fault, and no test can go on
	}
	return conn, func() {
		_ = conn.Close()
		server.Stop()
		<-served
	}
}
