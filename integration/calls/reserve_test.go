package calls_test

import "net"

// reserve finds a free port on loopback. Somebody else may take it before it is
// used; the kernel gives out others first.
func reserve() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
