package otel

import (
	"bytes"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/test/bufconn"

	"github.com/reprise-go/reprise"
)

// refuseFirst speaks just enough HTTP/2 to refuse the first stream of a
// connection, which makes grpc-go try again by itself, and to answer the next
// when its request has come in full. (A server that answers before has grpc-go
// fail in sending the rest.)
func refuseFirst(conn net.Conn) error {
	if _, err := io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface))); err != nil {
		return err
	}
	fr := http2.NewFramer(conn, conn)
	if err := fr.WriteSettings(); err != nil {
		return err
	}
	var refused uint32
	for {
		frame, err := fr.ReadFrame()
		if err != nil {
			return err
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = fr.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = fr.WritePing(true, f.Data)
			}
		case *http2.HeadersFrame:
			if refused == 0 {
				refused = f.StreamID
				err = fr.WriteRSTStream(refused, http2.ErrCodeRefusedStream)
			}
		case *http2.DataFrame:
			if f.StreamID != refused && f.StreamEnded() {
				err = answer(fr, f.StreamID)
			}
		}
		if err != nil {
			return err
		}
	}
}

func answer(fr *http2.Framer, stream uint32) error {
	var head, tail bytes.Buffer
	enc := hpack.NewEncoder(&head)
	_ = enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	_ = enc.WriteField(hpack.HeaderField{Name: "content-type", Value: "application/grpc"})
	if err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head.Bytes(), EndHeaders: true}); err != nil {
		return err
	}
	if err := fr.WriteData(stream, false, make([]byte, 5)); err != nil { // an empty message
		return err
	}
	_ = hpack.NewEncoder(&tail).WriteField(hpack.HeaderField{Name: "grpc-status", Value: "0"})
	return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: tail.Bytes(), EndHeaders: true, EndStream: true})
}

// refusing listens for connections that refuse their first stream.
func refusing(t *testing.T) *bufconn.Listener {
	t.Helper()
	lis := bufconn.Listen(1 << 16)
	t.Cleanup(func() { _ = lis.Close() })
	go func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_ = refuseFirst(conn)
			}()
		}
	}()
	return lis
}

func TestTransparentRetriesAreSeenByTheStatsHandler(t *testing.T) {
	t.Parallel()
	o := newSinks(t)
	client := dial(t, refusing(t), grpc.WithStatsHandler(o.StatsHandler()),
		grpc.WithUnaryInterceptor(reprise.UnaryClientInterceptor(reprise.WithObserver(o))))
	if _, err := client.EmptyCall(t.Context(), &testpb.Empty{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"grpc.client.call.transparent_retries {transparent_retry} [1 2 3 4 5 10] grpc.method=" + method +
		",grpc.target=passthrough:///store: 1 in 1 calls"}
	if got := o.metrics(t); !slices.Equal(got, want) {
		t.Errorf("recorded %q, want %q", got, want)
	}
	if n := len(o.spans.GetSpans()); n != 2 {
		t.Errorf("%d spans, want a call with one attempt:\n%s", n, o.tree())
	}
}

func TestTimeoutsOfStreamsLeaveTransparentRetriesAlone(t *testing.T) {
	t.Parallel()
	timeouts := []reprise.CallOption{reprise.WithTimeout(time.Hour), reprise.WithAttemptTimeout(time.Hour)}
	t.Run("bidirectional", func(t *testing.T) {
		t.Parallel()
		s, err := reprise.NewStream(dial(t, refusing(t)).FullDuplexCall, timeouts...).Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.CloseSend(); err != nil {
			t.Error(err)
		}
		if _, err := s.Recv(); err != nil {
			t.Error(err)
		}
	})
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		s, err := reprise.NewServerStream(dial(t, refusing(t)).StreamingOutputCall, timeouts...).Open(t.Context(), &testpb.StreamingOutputCallRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err != nil {
			t.Error(err)
		}
	})
}
