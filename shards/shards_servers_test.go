package shards_test

import (
	"errors"
	"fmt"
	"os"
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
