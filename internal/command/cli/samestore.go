package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/shards"
)

// checkDifferentStores returns an error if the target is the source under another name. That can
// happen with servers, which can have several addresses and can serve a local directory. The check
// writes a test key to the target, looks for it in the source and removes it. Call
// checkDifferentStores only if the target has keys: a target without keys can be the source only if
// the source is also empty.
func checkDifferentStores(ctx context.Context, to, from partd.Partd, toURL, fromURL string) (err error) {
	if !isServer(fromURL) && !isServer(toURL) {
		return nil // copyFlags.check has compared the two local directories
	}
	if err := checkNotShard(ctx, cliutil.BottomStore(to), cliutil.BottomStore(from), toURL, fromURL); err != nil {
		return err
	}
	key := "partd copy checks whether two stores are the same " + rand.Text()
	if err := to.Append(ctx, partd.Entry{Key: key, Value: []byte("x")}); err != nil {
		return err
	}
	defer func() {
		if e := partd.Delete(context.WithoutCancel(ctx), to, key); e != nil {
			err = errors.Join(err, fmt.Errorf("cannot remove the test key %q from %s: %w", key, toURL, e))
		}
	}()
	if err := flush(ctx, to); err != nil {
		return err
	}
	values, err := cliutil.BottomStore(from).Get(ctx, key)
	if err == nil && len(values[0]) > 0 {
		err = fmt.Errorf("%s and %s are the same store: there is nothing to copy", fromURL, toURL)
	}
	return err
}

// checkNotShard returns an error if one of two stores is a shard of the other. The test key cannot
// detect that, because it could be on another shard.
func checkNotShard(ctx context.Context, a, b partd.Partd, aURL, bURL string) error {
	list, shard := a, b
	if _, ok := list.(*shards.Shards); !ok {
		list, shard, aURL, bURL = b, a, bURL, aURL
	}
	s, ok := list.(*shards.Shards)
	if _, isShards := shard.(*shards.Shards); !ok || isShards {
		return nil
	}
	contained, err := s.Has(ctx, shard)
	if err == nil && contained {
		err = fmt.Errorf("%s is one of the servers of %s: there is nothing to copy", bURL, aURL)
	}
	return err
}

func isServer(rawURL string) bool {
	scheme, _ := cliutil.SplitURL(rawURL)
	return scheme == "tcp" || scheme == "tls" || scheme == "ipc"
}
