package otel

import (
	"bytes"
	"io"
	"net"
	"slices"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/test/bufconn"

	"github.com/reprise-go/reprise"
)

// refuseFirst speaks just enough HTTP/2 to refuse the first stream of a
// connection, which makes grpc-go try again by itself, and to answer the next.
func refuseFirst(conn net.Conn) error {
	if _, err := io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface))); err != nil {
		return err
	}
	fr := http2.NewFramer(conn, conn)
	if err := fr.WriteSettings(); err != nil {
		return err
	}
	refused := false
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
			if !refused {
				refused = true
				err = fr.WriteRSTStream(f.StreamID, http2.ErrCodeRefusedStream)
				break
			}
			err = answer(fr, f.StreamID)
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

func TestTransparentRetriesAreSeenByTheStatsHandler(t *testing.T) {
	t.Parallel()
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
	o := newSinks(t)
	client := dial(t, lis, grpc.WithStatsHandler(o.StatsHandler()),
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
