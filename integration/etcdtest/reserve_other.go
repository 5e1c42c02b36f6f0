//go:build !linux

package etcdtest

import "net"

// reservePort finds a free loopback port. Nothing holds the port while its
// listener is closed; an unlucky process could take it.
func reservePort() (port int, release func(), err error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, nil, err
	}
	port = l.Addr().(*net.TCPAddr).Port
	return port, func() {}, l.Close()
}
