// Shop-client buys an article from shop-server.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/reprise-go/reprise/examples/customer"
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
	address := flag.String("server", "127.0.0.1:7070", "the `address` of shop-server")
	article := flag.String("article", "teapot", "what to buy")
	verbose := flag.Bool("v", false, "log each attempt that fails")
	flag.Parse()
	level := slog.LevelWarn
	if *verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))

	// Reprise retries; grpc-go must not retry too.
	conn, err := grpc.NewClient(*address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	id := fmt.Sprintf("order-%d", time.Now().UnixNano())
	receipt, err := customer.Buy(ctx, customer.Connect(conn, log), id, *article, "no hurry")
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s for %d.%02d, notes %q\n", receipt.Order.GetId(), receipt.Order.GetArticle(),
		receipt.Cents/100, receipt.Cents%100, receipt.Order.GetNotes())
	return nil
}
