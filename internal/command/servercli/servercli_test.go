package servercli_test

import (
	"context"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/command/cli"
	"github.com/go-partd/partd/internal/command/servercli"
	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/remote"
)

func TestMain(m *testing.M) {
	procs.CollectLess()
	procs.TempInMemory()
	procs.Roles{"server": procs.Program(servercli.Main), "partd": procs.Program(cli.Main)}.Main(m)
}

// command returns a command that runs the test binary as partd-server or partd.
func command(role string, args ...string) *exec.Cmd {
	cmd := procs.Command(role, args...)
	cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, "PARTD_SERVER_") }) // the user's settings
	return cmd
}

// start starts a server on a free port. It is killed when the test ends.
func start(t testing.TB, args ...string) *procs.Server {
	t.Helper()
	return startChild(t, "server", append([]string{"--listen", "tcp://127.0.0.1:0"}, args...)...)
}

// startChild starts a child program that is a server. It is killed when the test ends.
func startChild(t testing.TB, child string, args ...string) *procs.Server {
	t.Helper()
	p := must.Get(procs.StartServer(context.Background(), command(child, args...), 1))(t)
	t.Cleanup(p.Kill)
	return p
}

func stop(t testing.TB, p *procs.Server) {
	t.Helper()
	must.Do(t, p.Stop(30*time.Second))
}

// require skips the test unless ok is set. If PARTD_REQUIRE_ALL is set, it fails the test instead.
func require(t testing.TB, ok bool, label string) {
	t.Helper()
	if !ok {
		procs.Skip(t, "this test needs %s", label)
	}
}

func requirePython(t testing.TB, modules string) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		path, err := exec.LookPath(name)
		if err == nil && exec.Command(path, "-c", "import "+modules).Run() == nil {
			return path
		}
	}
	require(t, false, "Python with the modules "+modules)
	return ""
}

// dialServer returns a client of a server. The optional namespace is written as /NAME.
func dialServer(t *testing.T, p *procs.Server, namespace ...string) *remote.Client {
	t.Helper()
	c := must.Get(remote.Dial(t.Context(), p.URL()+strings.Join(namespace, ""), nil))(t)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// randomBytes returns bytes that do not compress.
func randomBytes(seed, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

func openPeer(t *testing.T, p *procs.Server) *hostile.Peer {
	t.Helper()
	network, address := p.Address()
	peer := must.Get(hostile.Open(t.Context(), network, address, time.Minute))(t)
	t.Cleanup(func() { _ = peer.Close() })
	return peer
}
