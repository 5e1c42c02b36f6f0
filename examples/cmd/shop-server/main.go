// Shop-server serves shop.v1.Orders and fails on a script.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"

	"google.golang.org/grpc"

	"github.com/reprise-go/reprise/examples/orders"
	"github.com/reprise-go/reprise/examples/shop"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	address := flag.String("listen", "127.0.0.1:7070", "the `address` to listen on")
	text := flag.String("script", "", `how attempts fare, for example "Place=lost Get=UNAVAILABLE,ok"`)
	flag.Parse()
	script, err := shop.ParseScript(*text)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *address)
	if err != nil {
		return err
	}
	server := grpc.NewServer(script.ServerOptions()...)
	orders.RegisterOrdersServer(server, shop.New())
	defer context.AfterFunc(ctx, server.Stop)()
	fmt.Println("serving on", listener.Addr())
	return server.Serve(listener)
}
