package etcdtest

import (
	"net"
	"syscall"
)

// reservePort binds a loopback port without listening on it, so that nobody
// else gets the port and whoever connects to it is refused. A listener may
// still be opened on the port: Linux lets two sockets with SO_REUSEADDR, which
// Go sets on its listeners, share an address as long as only one listens.
func reservePort() (port int, release func(), err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, err
	}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return 0, nil, closeAfter(fd, err)
	}
	loopback := &syscall.SockaddrInet4{Addr: [4]byte(net.IPv4(127, 0, 0, 1).To4())}
	if err := syscall.Bind(fd, loopback); err != nil {
		return 0, nil, closeAfter(fd, err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, nil, closeAfter(fd, err)
	}
	bound, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		return 0, nil, closeAfter(fd, syscall.EAFNOSUPPORT)
	}
	return bound.Port, func() { _ = syscall.Close(fd) }, nil
}

func closeAfter(fd int, err error) error {
	_ = syscall.Close(fd)
	return err
}
