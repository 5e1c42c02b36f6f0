package calls_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall"
)

// oldServers are the releases before the one that the client library is of.
// Each stands in a module of its own, since no program can hold two of them.
var oldServers = []string{"etcd35", "etcd36"}

// startOld starts a member of an older release as a child process, built
// outside the workspace, and returns its endpoint.
func startOld(t *testing.T, binary string, args ...string) string {
	t.Helper()
	child := exec.CommandContext(t.Context(), binary, append(args, "-dir", t.TempDir())...)
	stdin, err := child.StdinPipe()
	must(t, err)
	stdout, err := child.StdoutPipe()
	must(t, err)
	child.Stderr = os.Stderr
	must(t, child.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = child.Wait() // killed by the end of the test's context, or gone with its input
	})
	endpoint, err := bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	return strings.TrimSpace(endpoint)
}

func buildOld(t *testing.T, name string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), name)
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	build.Dir = filepath.Join("..", "compat", name)
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

func TestOlderServers(t *testing.T) {
	t.Parallel()
	if !*campaign {
		t.Skip("builds etcd 3.5 and 3.6, which takes minutes: run with -campaign")
	}
	for _, name := range oldServers {
		t.Run(name, func(t *testing.T) {
			binary := buildOld(t, name)
			t.Run("refusals", func(t *testing.T) { testOldRefusals(t, startOld(t, binary)) })
			t.Run("authentication", func(t *testing.T) { testOldAuth(t, startOld(t, binary)) })
			t.Run("without a leader", func(t *testing.T) { testOldWithoutLeader(t, startOld(t, binary, "-leaderless")) })
			t.Run("exactly once", func(t *testing.T) { testOldExactlyOnce(t, startOld(t, binary)) })
		})
	}
}

// testOldRefusals makes a server raise what it refuses, and sees that each is
// found in the table as not applied and not tried again.
func testOldRefusals(t *testing.T, endpoint string) {
	t.Helper()
	cli := client(t, clientv3.Config{Endpoints: []string{endpoint}})
	put, err := cli.Put(soon(t), "k", "v")
	must(t, err)
	must(t, second(cli.Get(soon(t), "k")))
	must(t, second(cli.Txn(soon(t)).If(clientv3.Compare(clientv3.ModRevision("k"), "=", put.Header.Revision)).
		Then(clientv3.OpPut("k", "w")).Commit()))
	lease, err := cli.Grant(soon(t), 60)
	must(t, err)
	must(t, second(cli.Revoke(soon(t), lease.ID)))
	must(t, second(cli.Status(soon(t), endpoint)))
	must(t, second(cli.MemberList(soon(t))))
	must(t, second(cli.Compact(soon(t), put.Header.Revision)))

	tooMany := make([]clientv3.Op, 200)
	for i := range tooMany {
		tooMany[i] = clientv3.OpGet("k")
	}
	for name, c := range map[string]struct{ got, want error }{
		"empty key":     {second(cli.Put(soon(t), "", "v")), rpctypes.ErrEmptyKey},
		"no such lease": {second(cli.Put(soon(t), "k", "v", clientv3.WithLease(7))), rpctypes.ErrLeaseNotFound},
		"ignored value": {second(cli.Put(soon(t), "absent", "", clientv3.WithIgnoreValue())), rpctypes.ErrKeyNotFound},
		"too many ops":  {second(cli.Txn(soon(t)).Then(tooMany...).Commit()), rpctypes.ErrTooManyOps},
		"duplicate key": {second(cli.Txn(soon(t)).Then(clientv3.OpPut("a", "1"), clientv3.OpPut("a", "2")).Commit()), rpctypes.ErrDuplicateKey},
		"too large":     {second(cli.Put(soon(t), "k", string(make([]byte, 1800<<10)))), rpctypes.ErrRequestTooLarge},
		"compacted":     {second(cli.Get(soon(t), "k", clientv3.WithRev(1))), rpctypes.ErrCompacted},
		"future":        {second(cli.Get(soon(t), "k", clientv3.WithRev(1000))), rpctypes.ErrFutureRev},
		"revoke":        {second(cli.Revoke(soon(t), 7)), rpctypes.ErrLeaseNotFound},
		"member":        {second(cli.MemberRemove(soon(t), 7)), rpctypes.ErrMemberNotFound},
		"promote":       {second(cli.MemberPromote(soon(t), 7)), rpctypes.ErrMemberNotFound},
		"user":          {second(cli.UserGet(soon(t), "nobody")), rpctypes.ErrUserNotFound},
		"auth":          {second(cli.AuthEnable(soon(t))), rpctypes.ErrRootUserNotExist},
	} {
		if !errors.Is(c.got, c.want) || etcdcall.OutcomeOf(c.got) != etcdcall.NotApplied {
			t.Errorf("%s: outcome %v of %v, want %v", name, etcdcall.OutcomeOf(c.got), c.got, c.want)
		}
	}
}

func testOldAuth(t *testing.T, endpoint string) {
	t.Helper()
	admin := client(t, clientv3.Config{Endpoints: []string{endpoint}})
	must(t, second(admin.RoleAdd(soon(t), "root")))
	must(t, second(admin.UserAdd(soon(t), "root", "secret")))
	must(t, second(admin.UserGrantRole(soon(t), "root", "root")))
	must(t, second(admin.UserAdd(soon(t), "user", "secret")))
	must(t, second(admin.AuthEnable(soon(t))))

	if err := second(admin.Put(soon(t), "k", "v")); !errors.Is(err, rpctypes.ErrUserEmpty) || etcdcall.OutcomeOf(err) != etcdcall.NotApplied {
		t.Errorf("without a name: %v", err)
	}
	user := client(t, clientv3.Config{Endpoints: []string{endpoint}, Username: "user", Password: "secret"})
	if err := second(user.Put(soon(t), "k", "v")); !errors.Is(err, rpctypes.ErrPermissionDenied) || etcdcall.OutcomeOf(err) != etcdcall.NotApplied {
		t.Errorf("without a permission: %v", err)
	}
	root := client(t, clientv3.Config{Endpoints: []string{endpoint}, Username: "root", Password: "secret"})
	must(t, second(root.Put(soon(t), "k", "v")))
	must(t, second(root.UserChangePassword(soon(t), "root", "secret"))) // ends all tokens of root
	must(t, second(root.Put(soon(t), "k", "w")))
}

func testOldWithoutLeader(t *testing.T, endpoint string) {
	t.Helper()
	cli := client(t, clientv3.Config{Endpoints: []string{endpoint}})
	stopped := refused(t, cli, 2*time.Second)
	saysSo := func(a reprise.Attempt) bool { return errors.Is(a.Err, rpctypes.ErrNoLeader) }
	if !slices.ContainsFunc(stopped.Attempts, saysSo) {
		t.Errorf("the server never said that it has no leader: %v", stopped)
	}
}

func testOldExactlyOnce(t *testing.T, endpoint string) {
	t.Helper()
	cli := client(t, clientv3.Config{Endpoints: []string{endpoint}}, etcdcall.WithExactlyOnce("once/"))
	for range 5 {
		must(t, second(cli.Put(soon(t), "k", "v")))
	}
	r, err := cli.Txn(soon(t)).Then(clientv3.OpPut("k", "w", clientv3.WithPrevKV())).Commit()
	must(t, err)
	if previous := r.Responses[0].GetResponsePut().GetPrevKv(); previous.GetVersion() != 5 {
		t.Errorf("the key was written %d times, want 5", previous.GetVersion())
	}
}
