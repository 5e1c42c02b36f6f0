// Command etcd36 runs etcd 3.6 for the tests of package calls_test, which build
// and start it. It prints the client address of a member and ends when its
// standard input does.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/embed"
)

func main() {
	dir := flag.String("dir", "", "where the members keep their data")
	leaderless := flag.Bool("leaderless", false, "let the member survive the only other one")
	flag.Parse()
	if err := run(*dir, *leaderless); err != nil {
		log.Fatal(err)
	}
}

func run(dir string, leaderless bool) error {
	names := []string{"first"}
	if leaderless {
		names = append(names, "second")
	}
	members, err := start(dir, names)
	if err != nil {
		return err
	}
	for _, m := range members {
		<-m.Server.ReadyNotify()
	}
	for _, m := range members[1:] {
		m.Close()
	}
	defer members[0].Close()
	fmt.Println(members[0].Clients[0].Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// start starts the members of one cluster.
func start(dir string, names []string) ([]*embed.Etcd, error) {
	peers, initial := make([]url.URL, len(names)), ""
	for i, name := range names {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		peers[i] = url.URL{Scheme: "http", Host: free.Addr().String()}
		initial += fmt.Sprintf(",%s=%v", name, &peers[i])
		if err := free.Close(); err != nil {
			return nil, err
		}
	}
	members := make([]*embed.Etcd, 0, len(names))
	for i, name := range names {
		cfg := embed.NewConfig()
		cfg.Name, cfg.Dir, cfg.UnsafeNoFsync = name, filepath.Join(dir, name), true
		cfg.TickMs, cfg.ElectionMs = 10, 100
		cfg.LogLevel, cfg.LogOutputs = "fatal", []string{os.DevNull}
		cfg.ListenClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
		cfg.AdvertiseClientUrls = cfg.ListenClientUrls
		cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = peers[i:i+1], peers[i:i+1]
		cfg.InitialCluster = initial[1:]
		member, err := embed.StartEtcd(cfg)
		if err != nil {
			return nil, err
		}
		members = append(members, member)
	}
	return members, nil
}
