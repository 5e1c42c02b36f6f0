package etcdtest

import (
	"bufio"
	"bytes"
	"io"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// framed writes frames with the reference implementation.
func framed(t testing.TB, write func(f *http2.Framer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(http2.NewFramer(&b, nil)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func headers(fields ...hpack.HeaderField) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, f := range fields {
		_ = e.WriteField(f) // a bytes.Buffer takes everything
	}
	return b.Bytes()
}

func TestFramesAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	block := headers(hpack.HeaderField{Name: resetHeader, Value: "8"})
	for name, c := range map[string]struct {
		write func(f *http2.Framer) error
		kind  http2.FrameType
		ends  bool
	}{
		"data":      {func(f *http2.Framer) error { return f.WriteData(5, false, make([]byte, 20_000)) }, http2.FrameData, false},
		"last data": {func(f *http2.Framer) error { return f.WriteData(5, true, nil) }, http2.FrameData, true},
		"headers": {func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, BlockFragment: block, EndHeaders: true, EndStream: true})
		}, http2.FrameHeaders, true},
		"reset": {func(f *http2.Framer) error { return f.WriteRSTStream(5, http2.ErrCodeCancel) }, http2.FrameRSTStream, true},
		"ping":  {func(f *http2.Framer) error { return f.WritePing(false, [8]byte{}) }, http2.FramePing, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := framed(t, c.write)
			f, err := readFrame(bufio.NewReader(bytes.NewReader(want)), nil)
			if err != nil || !bytes.Equal(f, want) {
				t.Fatalf("got %x, %v, want %x", f, err, want)
			}
			if f.kind() != c.kind || f.endsStream() != c.ends || f.stream() != 5 && c.kind != http2.FramePing {
				t.Errorf("kind %v, stream %d, ends it %v", f.kind(), f.stream(), f.endsStream())
			}
		})
	}
}

func TestTheResetHeaderIsFoundInAnyShapeOfBlock(t *testing.T) {
	t.Parallel()
	block := headers(hpack.HeaderField{Name: "other", Value: "x"}, hpack.HeaderField{Name: resetHeader, Value: "8"})
	for name, write := range map[string]func(f *http2.Framer) error{
		"plain": func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true})
		},
		"padded, with a priority": func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 1, BlockFragment: block, EndHeaders: true, PadLength: 7, Priority: http2.PriorityParam{StreamDep: 3, Weight: 9},
			})
		},
		"continued": func(f *http2.Framer) error {
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:5]}); err != nil {
				return err
			}
			return f.WriteContinuation(1, true, block[5:])
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := bufio.NewReader(bytes.NewReader(framed(t, write)))
			h := newHeaderReader(resetHeader)
			for complete := false; !complete; {
				f, err := readFrame(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				var value string
				if value, complete, err = h.read(f); err != nil || complete && value != "8" {
					t.Fatalf("got %q, %v", value, err)
				}
			}
		})
	}
}

func TestTheResetFrameIsWhatHTTP2Says(t *testing.T) {
	t.Parallel()
	want := framed(t, func(f *http2.Framer) error { return f.WriteRSTStream(7, http2.ErrCodeCancel) })
	if got := rstStream(7, http2.ErrCodeCancel); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

// Whatever arrives, frames are whole and nothing panics.
func FuzzFrames(f *testing.F) {
	f.Add(framed(f, func(fr *http2.Framer) error {
		return fr.WriteHeaders(http2.HeadersFrameParam{
			StreamID: 1, EndHeaders: true, PadLength: 3,
			BlockFragment: headers(hpack.HeaderField{Name: resetHeader, Value: "8"}),
		})
	}))
	f.Add(framed(f, func(fr *http2.Framer) error { return fr.WriteData(1, true, []byte("x")) }))
	f.Add([]byte{0, 0, 1, byte(http2.FrameHeaders), 0xff, 0, 0, 0, 1, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		h := newHeaderReader(resetHeader)
		read := 0
		for {
			fr, err := readFrame(r, nil)
			if err != nil {
				if err != io.EOF && err != io.ErrUnexpectedEOF { //nolint:errorlint // they come as they are
					t.Errorf("got %v", err)
				}
				break
			}
			if !bytes.Equal(fr, b[read:read+len(fr)]) {
				t.Fatalf("a frame is not what arrived")
			}
			read += len(fr)
			_ = fr.endsStream()
			if k := fr.kind(); k == http2.FrameHeaders || k == http2.FrameContinuation {
				if _, _, err := h.read(fr); err != nil {
					break
				}
			}
		}
	})
}

// Whatever a member says first, finding out who it is consumes none of it.
func FuzzSource(f *testing.F) {
	f.Add([]byte("GET /raft/stream/msgapp/1 HTTP/1.1\r\nHost: x\r\nX-Server-From: abc\r\n\r\nbody"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(b), 32<<10)
		source, ok := readSource(r)
		if !ok && source != "" {
			t.Errorf("no source, yet %q", source)
		}
		rest, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(rest, b) {
			t.Errorf("%d of %d bytes are left: %v", len(rest), len(b), err)
		}
	})
}

func TestTheSourceIsReadFromTheFirstRequest(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"GET / HTTP/1.1\r\nx-server-from: abc\r\n\r\n":      "abc",
		"GET / HTTP/1.1\r\nHost: x\r\n\r\nX-Server-From: y": "",
	} {
		if got, ok := readSource(bufio.NewReader(bytes.NewReader([]byte(in)))); !ok || got != want {
			t.Errorf("%q: got %q, %v", in, got, ok)
		}
	}
	for in, want := range map[string]bool{
		"GET /raft/probing HTTP/1.1\r\n\r\n":              true,
		"GET /raft/stream/msgapp/1 HTTP/1.1\r\n\r\n":      false,
		"POST /raft HTTP/1.1\r\nX-Server-From: a\r\n\r\n": false,
	} {
		r := bufio.NewReader(bytes.NewReader([]byte(in)))
		if _, ok := readSource(r); !ok || isProbe(r) != want {
			t.Errorf("%q: want a probe: %v", in, want)
		}
	}
	if _, ok := readSource(bufio.NewReader(bytes.NewReader([]byte("GET / HT")))); ok {
		t.Error("a source was read from half a line")
	}
}
