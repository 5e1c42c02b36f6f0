package etcdtest

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"
	"golang.org/x/net/http2"
)

// A conn is one connection through a link: down is the end of the one who
// dialled, up the end at the member.
type conn struct {
	link   *Link
	down   *net.TCPConn
	lossy  atomic.Bool   // something of it was swallowed
	done   chan struct{} // closed when it ends
	toUp   *half
	toDown *half

	// source names the member who dialled, once it said so; guarded by link.mu.
	source string

	mu      sync.Mutex
	up      *net.TCPConn
	dead    bool
	streams map[uint32]struct{} // open HTTP/2 streams
}

// resetHeader is the response header by which a server interceptor asks the
// link to end the stream; its value is the code. See [ResetStream].
const resetHeader = "etcdtest-reset-stream"

func newConn(l *Link, down *net.TCPConn) *conn {
	c := &conn{link: l, down: down, done: make(chan struct{}), streams: make(map[uint32]struct{})}
	c.toUp = &half{conn: c, toMember: true, src: down}
	c.toDown = &half{conn: c, dst: down}
	return c
}

// run carries the connection until either end closes.
func (c *conn) run(target string) {
	first := bufio.NewReaderSize(c.down, 32<<10)
	framed, ok := c.recognise(first)
	if !ok {
		return
	}
	up, err := dial(target)
	if err != nil || !c.connect(up) {
		return
	}
	var back sync.WaitGroup
	back.Go(func() { c.toDown.run(bufio.NewReaderSize(up, 32<<10), framed) })
	if framed {
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(first, preface); err == nil {
			c.toUp.deliver(preface, true)
		}
	}
	c.toUp.run(first, framed)
	back.Wait()
}

// dial connects to a member, which is in this process.
func dial(target string) (*net.TCPConn, error) {
	addr, err := net.ResolveTCPAddr("tcp4", target)
	if err != nil {
		return nil, err
	}
	return net.DialTCP("tcp4", nil, addr)
}

// recognise waits for the first bytes and says whether HTTP/2 frames follow
// them; ok is false if the connection ended, or is not allowed.
func (c *conn) recognise(first *bufio.Reader) (framed, ok bool) {
	if c.link.peer {
		source, ok := readSource(first)
		if isProbe(first) {
			return false, false
		}
		c.link.mu.Lock()
		defer c.link.mu.Unlock()
		c.source = source
		return false, ok && !c.link.policy.Load().cutBy[source]
	}
	if _, err := first.Peek(1); err != nil {
		return false, false
	}
	if b, _ := first.Peek(3); string(b) != http2.ClientPreface[:3] {
		return false, true
	}
	b, _ := first.Peek(len(http2.ClientPreface))
	return string(b) == http2.ClientPreface, true
}

// readSource reads the header of the first HTTP/1.1 request of a connection
// between members, without consuming it, for who sent it. Some requests do not
// say.
func readSource(r *bufio.Reader) (source string, ok bool) {
	for want := 1; ; want = r.Buffered() + 1 {
		if _, err := r.Peek(want); err != nil {
			return "", false
		}
		b, _ := r.Peek(r.Buffered())
		if end := bytes.Index(b, []byte("\r\n\r\n")); end >= 0 {
			_, header, _ := bytes.Cut(b[:end+4], []byte("\r\n"))
			h, _ := textproto.NewReader(bufio.NewReader(bytes.NewReader(header))).ReadMIMEHeader()
			return h.Get("X-Server-From"), true
		}
	}
}

// isProbe tells whether a connection begins with a look at whether the member is
// there. That does not say who looks, and the sender uses its connection for
// messages of raft afterwards, which would so get past a cut. A member that is
// refused a look only logs it, and dials again for messages.
func isProbe(r *bufio.Reader) bool {
	request := "GET " + rafthttp.ProbingPrefix
	b, _ := r.Peek(min(r.Buffered(), len(request)))
	return string(b) == request
}

// connect notes the member's end, unless the connection died meanwhile.
func (c *conn) connect(up *net.TCPConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		_ = up.Close()
		return false
	}
	c.up = up
	c.toUp.dst, c.toDown.src = up, up
	return true
}

func (c *conn) localAddr() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.up == nil {
		return ""
	}
	return c.up.LocalAddr().String()
}

// reset ends both ends with a TCP reset; what was under way is gone. It may be
// called again.
func (c *conn) reset() { c.end(true) }

func (c *conn) end(abort bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return
	}
	c.dead = true
	close(c.done)
	for _, end := range []*net.TCPConn{c.down, c.up} {
		if end == nil {
			continue
		}
		if abort {
			_ = end.SetLinger(0)
		}
		_ = end.Close()
	}
}

// broken tells whether bytes are missing in a direction that is no longer
// swallowed.
func (c *conn) broken(p *policy) bool {
	return c.lossy.Load() && p.hole == 0
}

// note keeps account of the open streams.
func (c *conn) note(f frame, toMember bool) {
	if f.stream() == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case toMember && f.kind() == http2.FrameHeaders:
		c.streams[f.stream()] = struct{}{}
	case f.kind() == http2.FrameRSTStream, !toMember && f.endsStream():
		delete(c.streams, f.stream())
	}
}

func (c *conn) resetStreams(code http2.ErrCode) int {
	c.mu.Lock()
	open := c.streams
	c.streams = make(map[uint32]struct{})
	up := c.up
	c.mu.Unlock()
	if up == nil {
		return 0
	}
	for id := range open {
		f := rstStream(id, code)
		c.toDown.deliver(f, true)
		c.toUp.deliver(f, true)
	}
	return len(open)
}

// A half is one direction of a connection.
type half struct {
	conn     *conn
	toMember bool
	src, dst *net.TCPConn

	mu      sync.Mutex
	buf     bytes.Buffer // whole frames that wait for the next flush
	queue   []parcel     // what a delay holds back
	drained sync.WaitGroup
}

type parcel struct {
	due  time.Time
	data []byte
}

// run carries what arrives until the source ends, and then ends the
// connection, unless the link swallows that too.
func (h *half) run(r *bufio.Reader, framed bool) {
	if framed {
		h.runFrames(r)
	} else {
		h.runBytes(r)
	}
	h.drained.Wait()
	if h.conn.link.policy.Load().swallows(h.toMember) {
		h.conn.lossy.Store(true)
		if !h.conn.broken(h.conn.link.policy.Load()) {
			<-h.conn.done
		}
	}
	h.conn.end(false)
}

func (h *half) runBytes(r *bufio.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 && !h.deliver(buf[:n], true) {
			return
		}
		if err != nil {
			return
		}
	}
}

func (h *half) runFrames(r *bufio.Reader) {
	headers := newHeaderReader(resetHeader)
	var block []byte // a header block that is not complete yet
	buf := make([]byte, 0, 16<<10)
	for {
		f, err := readFrame(r, buf)
		if err != nil {
			return
		}
		buf = f
		if !h.toMember && h.losesResponse(f) {
			return
		}
		h.conn.note(f, h.toMember)
		flush := r.Buffered() < frameHeaderLen
		if kind := f.kind(); !h.toMember && (kind == http2.FrameHeaders || kind == http2.FrameContinuation) {
			code, complete, err := headers.read(f)
			if err != nil {
				return
			}
			block = append(block, f...)
			if !complete {
				continue
			}
			if n, err := strconv.ParseUint(code, 10, 32); err == nil {
				h.deliver(rstStream(f.stream(), http2.ErrCode(n)), false)
			}
			f, block = frame(block), block[:0]
		}
		if !h.deliver(f, flush) {
			return
		}
	}
}

// losesResponse takes one of the responses to be lost, if f begins or carries
// one, and resets the connection.
func (h *half) losesResponse(f frame) bool {
	if k := f.kind(); k != http2.FrameHeaders && k != http2.FrameData {
		return false
	}
	lose := &h.conn.link.lose
	for n := lose.Load(); n > 0; n = lose.Load() {
		if lose.CompareAndSwap(n, n-1) {
			h.conn.reset()
			return true
		}
	}
	return false
}

// deliver passes b on, at once or after the link's delay, or swallows it. It
// returns false if the connection is dead.
func (h *half) deliver(b []byte, flush bool) bool {
	l := h.conn.link
	p := l.policy.Load()
	if p.swallows(h.toMember) {
		h.conn.lossy.Store(true)
		// Heal may have looked for lossy connections just before.
		if h.conn.broken(l.policy.Load()) {
			h.conn.reset()
			return false
		}
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if by := p.latency(h.toMember); by > 0 || len(h.queue) > 0 {
		if len(h.queue) == 0 {
			h.drained.Go(h.drain)
		}
		if h.buf.Len() > 0 {
			h.queue = append(h.queue, parcel{time.Now(), bytes.Clone(h.buf.Bytes())})
			h.buf.Reset()
		}
		h.queue = append(h.queue, parcel{time.Now().Add(by), bytes.Clone(b)})
		return true
	}
	h.buf.Write(b)
	if !flush && h.buf.Len() < 32<<10 {
		return true
	}
	_, err := h.dst.Write(h.buf.Bytes())
	h.buf.Reset()
	return err == nil
}

// drain writes the queue, each parcel when it is due, until it is empty.
func (h *half) drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.queue) > 0 {
		first := h.queue[0]
		h.mu.Unlock()
		var err error
		select {
		case <-time.After(time.Until(first.due)):
			_, err = h.dst.Write(first.data)
		case <-h.conn.done:
			err = net.ErrClosed
		}
		h.mu.Lock()
		if err != nil {
			h.queue = nil
			return
		}
		h.queue = h.queue[1:]
	}
}
