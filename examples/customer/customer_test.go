package customer_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/examples/customer"
	"github.com/reprise-go/reprise/examples/orders"
	"github.com/reprise-go/reprise/examples/orders/ordersreprise"
	"github.com/reprise-go/reprise/examples/shop"
)

// open opens a shop that fares as text says and returns a client of it. What
// the client logs is in log.
func open(t *testing.T, text string) (client *ordersreprise.OrdersClient, script *shop.Script, log *logged) {
	t.Helper()
	script, err := shop.ParseScript(text)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(script.ServerOptions()...)
	orders.RegisterOrdersServer(server, shop.New())
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	log = new(logged)
	return customer.Connect(conn, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))), script, log
}

type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func buy(t *testing.T, client *ordersreprise.OrdersClient) (*customer.Receipt, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return customer.Buy(ctx, client, "1", "teapot", "no hurry")
}

// expect checks how many attempts of a method there were. Of the method that is
// hedged there are more where the machine is slow.
func expect(t *testing.T, script *shop.Script, method string, want int) {
	t.Helper()
	got := script.Attempts(method)
	if got != want && (method != "Quote" || got < want) {
		t.Errorf("%s: got %d attempts, want %d", method, got, want)
	}
}

func TestACustomerGetsOverWhatTheConfigProvidesFor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, script string
		attempts     map[string]int
	}{
		{"all is well", "", map[string]int{"Quote": 1, "Place": 1, "AddNote": 1, "Get": 0, "Follow": 1}},
		{"the shop is away", "Place=UNAVAILABLE,UNAVAILABLE,UNAVAILABLE", map[string]int{"Place": 4}},
		{"the answer is lost", "Place=lost,lost", map[string]int{"Place": 3}},
		{"a stream fails to start", "Follow=UNAVAILABLE,UNAVAILABLE", map[string]int{"Follow": 3}},
		{"one attempt hangs", "Quote=slow", map[string]int{"Quote": 2}},
		{"two attempts fail fast", "Quote=UNAVAILABLE,UNAVAILABLE", map[string]int{"Quote": 3}},
		{"the note's answer is lost", "AddNote=lost Get=UNAVAILABLE", map[string]int{"AddNote": 1, "Get": 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client, script, _ := open(t, tt.script)
			receipt, err := buy(t, client)
			if err != nil {
				t.Fatal(err)
			}
			if receipt.Cents != 600 || receipt.Order.GetArticle() != "teapot" ||
				!slices.Equal(receipt.Order.GetNotes(), []string{"no hurry"}) {
				t.Errorf("got %v for %d, want a teapot with one note for 600", receipt.Order, receipt.Cents)
			}
			for method, want := range tt.attempts {
				expect(t, script, method, want)
			}
		})
	}
}

func TestACustomerHearsOfWhatItDoesNotProvideFor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, script, method string
		attempts             int
		code                 codes.Code
	}{
		{"away for too long", "Place=" + strings.Repeat("UNAVAILABLE,", 9) + "ok", "Place", 4, codes.Unavailable},
		{"another code", "Place=INTERNAL", "Place", 1, codes.Internal},
		{"a note that was not added", "AddNote=UNAVAILABLE", "AddNote", 1, codes.Unavailable},
		{"a fatal answer among hedges", "Quote=PERMISSION_DENIED", "Quote", 1, codes.PermissionDenied},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client, script, _ := open(t, tt.script)
			_, err := buy(t, client)
			if status.Code(err) != tt.code {
				t.Errorf("got %v, want %v", err, tt.code)
			}
			expect(t, script, tt.method, tt.attempts)
		})
	}
}

func TestACustomerIsToldWhyReprisePutAnEndToIt(t *testing.T) {
	t.Parallel()
	client, _, log := open(t, "Place="+strings.Repeat("UNAVAILABLE,", 9)+"ok")
	_, err := buy(t, client)
	if stopped, ok := errors.AsType[*reprise.Error](err); !ok || stopped.Reason != reprise.ReasonAttempts {
		t.Errorf("got %v, want the end of the attempts", err)
	}
	if !strings.Contains(log.String(), orders.Orders_Place_FullMethodName) {
		t.Errorf("the log does not name the method:\n%s", log)
	}
}
