package etcdtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"google.golang.org/grpc"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrDown is returned by what needs a running member when the member was
// killed or stopped.
var ErrDown = errors.New("etcdtest: the member is down")

// ErrRunning is returned by [Member.Restart] when the member is running.
var ErrRunning = errors.New("etcdtest: the member is running")

// A Member is one etcd server of a [Cluster]. All methods may be called
// concurrently.
type Member struct {
	cluster *Cluster
	name    string
	client  *Link
	peer    *Link

	life sync.Mutex // held while the member starts or stops

	mu      sync.Mutex
	etcd    *embed.Etcd // nil while down
	servers *servers
	truth   *truth // nil until it is asked for
	id      string // in hexadecimal, as members write it to each other
}

// Name returns the name the member has in the cluster: m0, m1, and so on.
func (m *Member) Name() string { return m.name }

// Endpoint returns the URL at which clients reach the member.
func (m *Member) Endpoint() string {
	if m.cluster.opts.tls {
		return "https://" + m.client.Addr()
	}
	return "http://" + m.client.Addr()
}

// ClientLink returns the network between clients and the member.
func (m *Member) ClientLink() *Link { return m.client }

// PeerLink returns the network through which other members talk to the member.
// What the member says to others passes through their links.
func (m *Member) PeerLink() *Link { return m.peer }

// Running tells whether the member is up.
func (m *Member) Running() bool { return m.Server() != nil }

// Server returns the running etcd server, or nil while the member is down. What
// reads from it directly must have returned before the member goes down, since
// a server whose store is closed crashes the process; [Member.Truth] reads
// safely.
func (m *Member) Server() *etcdserver.EtcdServer {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.etcd == nil {
		return nil
	}
	return m.etcd.Server
}

// Truth returns a client that reaches the running server through memory: no
// link, no interceptor of [WithServerOptions], no fault and no client retry
// stands between. It reads linearizably like any client, and so needs a leader,
// unless told otherwise with [clientv3.WithSerializable]. It carries no user,
// so that a cluster made with [WithAuth] refuses it. It is closed when the
// member goes down, which cancels its calls; don't close it.
func (m *Member) Truth() (*clientv3.Client, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.etcd == nil {
		return nil, ErrDown
	}
	if m.truth == nil {
		t, err := newTruth(m.etcd.Server)
		if err != nil {
			return nil, fmt.Errorf("etcdtest: reach %s through memory: %w", m.name, err)
		}
		m.truth = t
	}
	return m.truth.client, nil
}

// Kill ends the member at once: its connections are reset, what it was doing
// is abandoned, and connecting to it is refused. Killing a member that is down
// does nothing.
func (m *Member) Kill() error {
	return m.end(func(*etcdserver.EtcdServer) {})
}

// Stop ends the member as a signal would: it hands its leadership over, if it
// has it and another can take it, and then ends. Calls in flight are cut.
// Stopping a member that is down does nothing.
func (m *Member) Stop() error {
	return m.end(func(s *etcdserver.EtcdServer) {
		_ = s.TryTransferLeadershipOnShutdown() // it may have no one to hand over to
	})
}

// Restart starts a member that is down again, on the data it left, and waits
// until it serves or ctx ends. A member serves when it has caught up with a
// leader, so that a cluster without a quorum needs its members restarted
// concurrently; the member keeps running when ctx ends first.
func (m *Member) Restart(ctx context.Context) error {
	m.life.Lock()
	defer m.life.Unlock()
	if m.Running() {
		return ErrRunning
	}
	if err := m.start(); err != nil {
		return err
	}
	return m.ready(ctx)
}

// start starts the server, without waiting for anything.
func (m *Member) start() error {
	cfg, err := m.config()
	if err != nil {
		return err
	}
	ss := &servers{}
	ss.watch(cfg)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("etcdtest: start %s: %w", m.name, err)
	}
	m.mu.Lock()
	m.etcd, m.servers = e, ss
	m.id = e.Server.MemberID().String()
	m.mu.Unlock()
	return errors.Join(
		m.peer.setTarget(e.Peers[0].Addr().String()),
		m.client.setTarget(byTCP(e.Clients)),
	)
}

// byTCP is the address of the listener that is on TCP. A server option may have added
// others, and etcd returns them in any order.
func byTCP(listeners []net.Listener) string {
	for _, l := range listeners {
		if addr := l.Addr(); addr.Network() == "tcp" {
			return addr.String()
		}
	}
	return ""
}

func (m *Member) ready(ctx context.Context) error {
	s := m.Server()
	if s == nil {
		return ErrDown
	}
	select {
	case <-s.ReadyNotify():
		return nil
	case <-s.StopNotify():
		return fmt.Errorf("etcdtest: %s stopped while starting: %w", m.name, ErrDown)
	case <-ctx.Done():
		return fmt.Errorf("etcdtest: %s is not ready: %w", m.name, context.Cause(ctx))
	}
}

func (m *Member) config() (*embed.Config, error) {
	c := m.cluster
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = m.name, filepath.Join(c.dir, m.name)
	cfg.UnsafeNoFsync = true
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(c.opts.logger.Named(m.name))
	cfg.TickMs = uint(c.opts.tick.Milliseconds())
	cfg.ElectionMs = uint(c.opts.election.Milliseconds())
	cfg.EnableGRPCGateway = false
	cfg.InitialCluster = c.initial
	cfg.InitialClusterToken = filepath.Base(c.dir)
	if c.authority != nil {
		cfg.ClientTLSInfo = c.authority.info
	}
	cfg.BcryptCost = cheapestHash
	client, err := url.Parse(m.Endpoint())
	if err != nil {
		return nil, err
	}
	cfg.AdvertiseClientUrls = []url.URL{*client}
	cfg.ListenClientUrls = []url.URL{{Scheme: client.Scheme, Host: "127.0.0.1:0"}}
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: m.peer.Addr()}}
	cfg.ListenPeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.GRPCAdditionalServerOptions = append(append([]grpc.ServerOption{}, c.opts.grpc...),
		grpc.ChainUnaryInterceptor(c.faults.unary(m)),
		grpc.ChainStreamInterceptor(c.faults.stream(m)),
	)
	for _, f := range c.opts.configure {
		f(cfg)
	}
	return cfg, nil
}

// cheapestHash is the least cost of bcrypt. etcd hashes a password in the middle
// of a request, and at its default cost that may take a busy machine longer than
// a short-lived token is good for, or than an attempt may take.
const cheapestHash = 4

// end takes the server out of service after a last word to it, and frees what
// it held. Closing an etcd twice panics, so the one who takes m.etcd away closes
// it.
func (m *Member) end(lastly func(*etcdserver.EtcdServer)) error {
	m.life.Lock()
	defer m.life.Unlock()
	m.mu.Lock()
	e, ss, t := m.etcd, m.servers, m.truth
	m.etcd, m.servers, m.truth = nil, nil, nil
	m.mu.Unlock()
	if e == nil {
		return nil
	}
	lastly(e.Server)
	err := errors.Join(m.client.setTarget(""), m.peer.setTarget(""))
	if t != nil {
		err = errors.Join(err, t.close())
	}
	ss.end()
	e.Server.HardStop()
	e.Close()
	return err
}

// ID returns the member's id in the cluster.
func (m *Member) ID() uint64 {
	id, _ := strconv.ParseUint(m.hexID(), 16, 64) // etcd wrote it
	return id
}

func (m *Member) hexID() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.id
}
