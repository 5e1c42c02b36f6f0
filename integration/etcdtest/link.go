package etcdtest

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// ErrEncrypted is returned when a fault would have to see or write HTTP/2
// frames inside a TLS connection. See [WithTLS].
var ErrEncrypted = errors.New("etcdtest: the link carries TLS, its frames cannot be seen")

// A Direction says which half of a link a fault touches.
type Direction uint8

// The directions of a link, seen from the one who dials.
const (
	Requests  Direction = 1 << iota // towards the member
	Responses                       // from the member
	Both      = Requests | Responses
)

// A Link is the network in front of a member: a proxy on loopback that carries
// either what clients say to it, or what other members say to it. Its address
// never changes, and its faults outlast restarts of the member. Faults add up
// until [Link.Heal].
//
// All methods may be called concurrently.
type Link struct {
	port    int
	release func()
	peer    bool
	tls     bool
	lose    atomic.Int64 // responses still to be lost
	policy  atomic.Pointer[policy]
	running sync.WaitGroup

	mu       sync.Mutex
	listener *net.TCPListener
	target   string // where the member listens; empty while it is down
	closed   bool
	conns    map[*conn]struct{}
}

// policy is the set of faults of a link. It is replaced, never changed.
type policy struct {
	cut    bool
	refuse bool
	hole   Direction
	delay  [2]time.Duration // of requests, of responses
	cutBy  map[string]bool  // members whose connections are cut
}

func (p *policy) swallows(toMember bool) bool {
	if toMember {
		return p.hole&Requests != 0
	}
	return p.hole&Responses != 0
}

func (p *policy) latency(toMember bool) time.Duration {
	if toMember {
		return p.delay[0]
	}
	return p.delay[1]
}

func newLink(peer, tls bool) (*Link, error) {
	port, release, err := reservePort()
	if err != nil {
		return nil, fmt.Errorf("etcdtest: reserve a port: %w", err)
	}
	l := &Link{port: port, release: release, peer: peer, tls: tls, conns: make(map[*conn]struct{})}
	l.policy.Store(&policy{})
	return l, nil
}

// Addr returns the host and port at which the link is reached.
func (l *Link) Addr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(l.port))
}

// Cut resets every connection of the link and refuses new ones.
func (l *Link) Cut() error {
	return l.change(func(p *policy) { p.cut = true })
}

// Refuse refuses new connections and leaves those that stand alone.
func (l *Link) Refuse() error {
	return l.change(func(p *policy) { p.refuse = true })
}

// BlackHole swallows everything in direction d: connections stand, and stay
// silent. New connections are accepted and hear nothing either. Once something
// was swallowed in a connection, healing resets it: TCP cannot go on after
// losing bytes.
func (l *Link) BlackHole(d Direction) error {
	return l.change(func(p *policy) { p.hole |= d })
}

// Delay makes everything in direction d arrive later by the given time. It
// does not limit how much is under way, and keeps the order.
func (l *Link) Delay(d Direction, by time.Duration) error {
	return l.change(func(p *policy) {
		if d&Requests != 0 {
			p.delay[0] = by
		}
		if d&Responses != 0 {
			p.delay[1] = by
		}
	})
}

// Heal ends every fault of the link. [Cluster.CutPeers] is healed by
// [Cluster.HealPeers] instead.
func (l *Link) Heal() error {
	l.lose.Store(0)
	return l.change(func(p *policy) { *p = policy{cutBy: p.cutBy} })
}

// Reset resets every connection of the link, once. New connections are
// welcome.
func (l *Link) Reset() {
	for _, c := range l.connections() {
		c.reset()
	}
}

// LoseResponse loses the next response that the member sends to a client,
// whatever it answers: its connection is reset when the first frame of the
// response passes by, so that the member has handled the request, and the
// client learns nothing. Use [Cluster.Inject] to choose the method. Calling it
// n times loses n responses.
func (l *Link) LoseResponse() error {
	if err := l.seesFrames(); err != nil {
		return err
	}
	l.lose.Add(1)
	return nil
}

// ResetStreams ends every gRPC stream that is open now, unary calls in flight
// included, with RST_STREAM and the given code, as a proxy on the way would do.
// Connections stand. It returns how many streams it ended.
func (l *Link) ResetStreams(code http2.ErrCode) (int, error) {
	if err := l.seesFrames(); err != nil {
		return 0, err
	}
	n := 0
	for _, c := range l.connections() {
		n += c.resetStreams(code)
	}
	return n, nil
}

// Connections returns how many connections stand.
func (l *Link) Connections() int { return len(l.connections()) }

func (l *Link) seesFrames() error {
	if l.tls {
		return ErrEncrypted
	}
	if l.peer {
		return errors.New("etcdtest: members do not talk HTTP/2 to each other")
	}
	return nil
}

// setTarget says where the member listens; with an empty target the link
// behaves like the address of a dead process.
func (l *Link) setTarget(addr string) error {
	l.mu.Lock()
	l.target = addr
	l.mu.Unlock()
	return l.enforce()
}

func (l *Link) cutFrom(member string, cut bool) error {
	return l.change(func(p *policy) {
		m := maps.Clone(p.cutBy)
		if m == nil {
			m = make(map[string]bool)
		}
		m[member] = cut
		p.cutBy = m
	})
}

func (l *Link) change(f func(p *policy)) error {
	l.mu.Lock()
	p := *l.policy.Load()
	f(&p)
	l.policy.Store(&p)
	l.mu.Unlock()
	return l.enforce()
}

// enforce brings the listener and the standing connections in line with the
// policy.
func (l *Link) enforce() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.policy.Load()
	down := l.target == "" || l.closed
	for c := range l.conns {
		if down || p.cut || p.cutBy[c.source] || c.broken(p) {
			c.reset()
		}
	}
	return l.listen(!down && !p.cut && !p.refuse)
}

func (l *Link) listen(want bool) error {
	switch {
	case want && l.listener == nil:
		listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: l.port})
		if err != nil {
			return fmt.Errorf("etcdtest: listen again on a link: %w", err)
		}
		l.listener = listener
		l.running.Go(func() { l.accept(listener) })
	case !want && l.listener != nil:
		err := l.listener.Close()
		l.listener = nil
		return err
	}
	return nil
}

func (l *Link) accept(listener *net.TCPListener) {
	for {
		c, err := listener.AcceptTCP()
		if err != nil {
			return
		}
		l.running.Go(func() { l.carry(c) })
	}
}

// carry runs one connection until it ends.
func (l *Link) carry(down *net.TCPConn) {
	c := newConn(l, down)
	l.mu.Lock()
	target := l.target
	welcome := target != "" && !l.closed && !l.policy.Load().cut
	if welcome {
		l.conns[c] = struct{}{}
	}
	l.mu.Unlock()
	if welcome {
		c.run(target)
	}
	c.reset()
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
}

func (l *Link) connections() []*conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	cc := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		cc = append(cc, c)
	}
	return cc
}

// resetFrom resets the connection whose end at the member has the given
// address, and says whether there was one.
func (l *Link) resetFrom(addr string) bool {
	for _, c := range l.connections() {
		if c.localAddr() == addr {
			c.reset()
			return true
		}
	}
	return false
}

func (l *Link) close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	err := l.enforce()
	l.running.Wait()
	l.release()
	return err
}
