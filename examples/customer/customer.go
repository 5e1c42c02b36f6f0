// Package customer orders from a shop, and minds no failure that the shop's
// service config says how to get over.
package customer

import (
	"context"
	"fmt"
	"log/slog"

	"google.golang.org/grpc"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/examples/orders"
	"github.com/reprise-go/reprise/examples/orders/ordersreprise"
)

// Connect returns a client of the shop at the other end of conn. It logs what
// it does about failures.
func Connect(conn grpc.ClientConnInterface, log *slog.Logger) *ordersreprise.OrdersClient {
	opts := ordersreprise.DefaultOrdersCallOptions(reprise.WithObserver(reprise.SlogObserver(log)))
	return ordersreprise.NewOrdersClient(orders.NewOrdersClient(conn), opts)
}

// A Receipt is what a customer takes home.
type Receipt struct {
	Cents int64
	Order *orders.Order
}

// Buy asks for the price of an article, orders it under the identifier id, puts
// a note on the order, and waits to see the note.
//
// All but the note can be tried again. When the note fails with UNAVAILABLE,
// Buy cannot know whether it was added, and looks.
func Buy(ctx context.Context, shop *ordersreprise.OrdersClient, id, article, note string) (*Receipt, error) {
	price, err := shop.Quote(ctx, &orders.QuoteRequest{Article: article})
	if err != nil {
		return nil, fmt.Errorf("asking for the price: %w", err)
	}
	if _, err := shop.Place(ctx, &orders.PlaceRequest{Id: id, Article: article}); err != nil {
		return nil, fmt.Errorf("placing the order: %w", err)
	}
	if _, err := shop.AddNote(ctx, &orders.AddNoteRequest{Id: id, Note: note}); err != nil {
		order, look := shop.Get(ctx, &orders.GetRequest{Id: id})
		if look != nil || len(order.GetNotes()) == 0 {
			return nil, fmt.Errorf("adding the note: %w", err)
		}
	}
	order, err := follow(ctx, shop, id)
	if err != nil {
		return nil, fmt.Errorf("following the order: %w", err)
	}
	return &Receipt{Cents: price.GetCents(), Order: order}, nil
}

// follow returns the order when it has a note.
func follow(ctx context.Context, shop *ordersreprise.OrdersClient, id string) (*orders.Order, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	stream, err := shop.Follow(ctx, &orders.GetRequest{Id: id})
	if err != nil {
		return nil, err
	}
	for {
		order, err := stream.Recv()
		if err != nil || len(order.GetNotes()) > 0 {
			return order, err
		}
	}
}
