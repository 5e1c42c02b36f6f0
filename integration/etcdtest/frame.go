package etcdtest

import (
	"bufio"
	"encoding/binary"
	"io"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A frame is one whole HTTP/2 frame, header included. It is valid until the
// next one is read.
type frame []byte

const frameHeaderLen = 9

func (f frame) kind() http2.FrameType { return http2.FrameType(f[3]) }
func (f frame) flags() http2.Flags    { return http2.Flags(f[4]) }
func (f frame) stream() uint32        { return binary.BigEndian.Uint32(f[5:]) & (1<<31 - 1) }

// endsStream tells whether the sender of f says nothing more on its stream.
func (f frame) endsStream() bool {
	switch f.kind() {
	case http2.FrameData:
		return f.flags().Has(http2.FlagDataEndStream)
	case http2.FrameHeaders:
		return f.flags().Has(http2.FlagHeadersEndStream)
	case http2.FrameRSTStream:
		return true
	default:
		return false
	}
}

// readFrame reads the next frame into buf, growing it if need be.
func readFrame(r *bufio.Reader, buf []byte) (frame, error) {
	if cap(buf) < frameHeaderLen {
		buf = make([]byte, 0, 16<<10)
	}
	buf = buf[:frameHeaderLen]
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, err
	}
	n := frameHeaderLen + (int(buf[0])<<16 | int(buf[1])<<8 | int(buf[2]))
	if cap(buf) < n {
		grown := make([]byte, n)
		copy(grown, buf)
		buf = grown
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf[frameHeaderLen:]); err != nil {
		return nil, err
	}
	return buf, nil
}

// rstStream makes a RST_STREAM frame.
func rstStream(id uint32, code http2.ErrCode) frame {
	f := make(frame, frameHeaderLen+4)
	f[2] = 4
	f[3] = byte(http2.FrameRSTStream)
	binary.BigEndian.PutUint32(f[5:], id)
	binary.BigEndian.PutUint32(f[frameHeaderLen:], uint32(code))
	return f
}

// headerReader follows the header blocks of one direction of a connection.
// HPACK is stateful, so that it must see all of them.
type headerReader struct {
	dec   *hpack.Decoder
	name  string
	found string
}

// newHeaderReader looks for the header field of the given name.
func newHeaderReader(name string) *headerReader {
	h := &headerReader{name: name}
	h.dec = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == h.name {
			h.found = f.Value
		}
	})
	h.dec.SetAllowedMaxDynamicTableSize(1 << 20)
	return h
}

// read takes a HEADERS or CONTINUATION frame. When the block is complete it
// says so, with the value of the field that it looks for, if it was there.
func (h *headerReader) read(f frame) (value string, complete bool, err error) {
	if _, err := h.dec.Write(headerBlock(f)); err != nil {
		return "", false, err
	}
	if !f.flags().Has(http2.FlagHeadersEndHeaders) {
		return "", false, nil
	}
	if err := h.dec.Close(); err != nil {
		return "", false, err
	}
	value, h.found = h.found, ""
	return value, true, nil
}

// headerBlock returns the part of f that is HPACK: without padding and
// priority (RFC 9113, section 6.2).
func headerBlock(f frame) []byte {
	b := f[frameHeaderLen:]
	if f.kind() != http2.FrameHeaders {
		return b
	}
	pad := 0
	if f.flags().Has(http2.FlagHeadersPadded) && len(b) > 0 {
		pad, b = int(b[0]), b[1:]
	}
	if f.flags().Has(http2.FlagHeadersPriority) && len(b) >= 5 {
		b = b[5:]
	}
	return b[:max(0, len(b)-pad)]
}
