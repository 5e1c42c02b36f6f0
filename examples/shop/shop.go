// Package shop is a server of orders, kept in memory, that can be told to fail.
package shop

import (
	"context"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise/examples/orders"
)

// A Shop serves shop.v1.Orders. Make it with [New].
type Shop struct {
	orders.UnimplementedOrdersServer

	mu      sync.Mutex
	orders  map[string]*orders.Order
	changed chan struct{} // closed at the next change
}

// New returns a shop without orders.
func New() *Shop {
	return &Shop{orders: make(map[string]*orders.Order), changed: make(chan struct{})}
}

// Place places an order, or returns the one that was placed under its
// identifier before.
func (s *Shop) Place(_ context.Context, r *orders.PlaceRequest) (*orders.Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, placed := s.orders[r.GetId()]
	switch {
	case !placed:
		o = &orders.Order{Id: r.GetId(), Article: r.GetArticle()}
		s.change(o)
	case o.GetArticle() != r.GetArticle():
		return nil, status.Errorf(codes.AlreadyExists, "order %s is for %s", o.GetId(), o.GetArticle())
	}
	return o, nil
}

// Get returns an order.
func (s *Shop) Get(_ context.Context, r *orders.GetRequest) (*orders.Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(r.GetId())
}

// Quote returns a price, which is the length of the article's name in euros.
func (s *Shop) Quote(_ context.Context, r *orders.QuoteRequest) (*orders.Price, error) {
	return &orders.Price{Cents: int64(len(r.GetArticle())) * 100}, nil
}

// AddNote adds a note to an order.
func (s *Shop) AddNote(_ context.Context, r *orders.AddNoteRequest) (*orders.Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := s.find(r.GetId())
	if err != nil {
		return nil, err
	}
	o := &orders.Order{Id: old.GetId(), Article: old.GetArticle(), Notes: append(slices.Clip(old.GetNotes()), r.GetNote())}
	s.change(o)
	return o, nil
}

// Follow streams an order each time that it changes.
func (s *Shop) Follow(r *orders.GetRequest, stream grpc.ServerStreamingServer[orders.Order]) error {
	var sent *orders.Order
	for {
		s.mu.Lock()
		o, err := s.find(r.GetId())
		changed := s.changed
		s.mu.Unlock()
		if err != nil {
			return err
		}
		if o != sent {
			if err := stream.Send(o); err != nil {
				return err
			}
			sent = o
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// change stores o and wakes those who follow. Orders are replaced, never
// edited: they may be on their way to a customer.
func (s *Shop) change(o *orders.Order) {
	s.orders[o.GetId()] = o
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Shop) find(id string) (*orders.Order, error) {
	o, ok := s.orders[id]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "no order %s", id)
	}
	return o, nil
}
