package shards_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/partdtest"
	"github.com/go-partd/partd/stores"
)

// TestServersKeepPromises runs partdtest over three servers, with a new namespace for each check.
func TestServersKeepPromises(t *testing.T) {
	var addresses []string
	for range 3 {
		_, address := start(t, "--store", "log:"+t.TempDir()+"/data", "--listen", "tcp://127.0.0.1:0").Address()
		addresses = append(addresses, address)
	}
	n := 0
	storetest.CheckSlow(t, func(t *testing.T) partd.Partd {
		n++
		return open(t, fmt.Sprintf("tcp://%s/n%d", strings.Join(addresses, ","), n))
	}, &partdtest.Options{
		Require: []partdtest.Ability{
			partdtest.CanSet, partdtest.CanDelete, partdtest.CanList, partdtest.CanOpen, partdtest.CanScan,
			partdtest.CanFlush, partdtest.CanSync, partdtest.CanStat, partdtest.CanClose,
		},
		MachineRuns: 3, Pieces: 60, Parts: 2000, // TestKeepsPromises can scan more
	})
}

// TestListsOfServers checks that a client with fewer servers is rejected, that the order of servers
// does not matter, and that each namespace has its own list.
func TestListsOfServers(t *testing.T) {
	ctx := t.Context()
	c := startCluster(t)
	threeServers := open(t, c.url()+"/job1")
	must.Do(t, threeServers.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}))
	rotated := []string{c.addresses[2], c.addresses[0], c.addresses[1]}
	reordered := open(t, "tcp://"+strings.Join(rotated, ",")+"/job1?insecure=true")
	if v, err := reordered.Get(ctx, "k"); err != nil || string(v[0]) != "v" {
		t.Errorf("Get with the servers in another order = %q, %v, want v", v, err)
	}
	twoServers := open(t, "tcp://"+strings.Join(c.addresses[:2], ",")+"/job1")
	if err := twoServers.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}); err == nil || !strings.Contains(err.Error(), "another shard list") ||
		!strings.Contains(err.Error(), strings.Join(slices.Sorted(slices.Values(rotated)), ", ")) {
		t.Errorf("Append with two of three servers = %v, want an error with the whole list", err)
	}
	job2 := open(t, "tcp://"+strings.Join(c.addresses[:2], ",")+"/job2")
	must.Do(t, job2.Append(ctx, partd.Entry{Key: "k", Value: []byte("other")}))
	for _, s := range []partd.Partd{threeServers, reordered, twoServers, job2} {
		must.Do(t, partd.Close(ctx, s))
	}
	finalClient := open(t, c.url()+"/job1")
	must.Do(t, finalClient.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}))
	for _, p := range c.servers {
		must.Do(t, p.Stop(time.Minute))
	}
	start := time.Now()
	must.Do(t, finalClient.(io.Closer).Close())
	if elapsed := time.Since(start); elapsed > 20*time.Second {
		t.Errorf("Close took %v after the servers had stopped, want at most 20 s", elapsed)
	}
	if _, err := stores.Open(ctx, c.url()); err == nil || !strings.Contains(err.Error(), "shard "+c.addresses[2]) {
		t.Errorf("Open after the servers had stopped = %v, want an error that names a server", err)
	}
}

// TestServersWithUsers checks that a client uses its token for all servers of a URL over TLS, and that
// Open fails if one of them rejects the token.
func TestServersWithUsers(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	ca := must.Get(nettest.NewAuthority(dir, "authority"))(t)
	pair := must.Get(ca.Issue("server", time.Hour, "127.0.0.1"))(t)
	var addresses []string
	for _, users := range []string{"users", "users", "others"} {
		if _, err := os.Stat(dir + "/" + users); errors.Is(err, os.ErrNotExist) {
			token := must.Get(procs.Command("server", "token", "add", "worker", "--tokens-file", dir+"/"+users, "--rights", "append,read,change").Output())(t)
			must.Do(t, os.WriteFile(dir+"/token-"+users, token, 0o600))
		}
		p := start(t, "--store", "mem:", "--listen", "tls://127.0.0.1:0", "--tls-cert", pair.Cert, "--tls-key", pair.Key, "--tokens-file", dir+"/"+users)
		addresses = append(addresses, strings.TrimPrefix(p.URL(), "tls://"))
	}
	options := "?ca=" + ca.File + "&token-file=" + dir + "/token-users"
	s := open(t, "tls://"+strings.Join(addresses[:2], ",")+options)
	for i := range 20 {
		must.Do(t, s.Append(ctx, partd.Entry{Key: fmt.Sprint(i), Value: []byte("x")}))
	}
	stats, err := partd.Stat(ctx, s)
	if err != nil || stats.Keys != 20 || stats.Bytes != 20 {
		t.Errorf("Stat = %+v, %v, want 20 keys with 20 bytes", stats, err)
	}
	must.Do(t, partd.Close(ctx, s))
	if _, err := stores.Open(ctx, "tls://"+strings.Join(addresses, ",")+options); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), addresses[2]) {
		t.Errorf("Open with a server that rejects the token = %v, want ErrPermission of that server", err)
	}
}
