package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/objstore/cloud"
)

func newRemove() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove --store URL",
		Short: "Delete all objects below a prefix of a bucket",
		Long: `Delete all objects below s3://BUCKET/PREFIX, whose names begin with PREFIX/: the store
there, and all stores below it, which must not be in use. This cannot be undone.`,
		Example: "  partd-cloud remove --store s3://bucket/jobs/7?region=eu-central-1",
		Args:    cobra.NoArgs,
	}
	rawURL := storeFlag(cmd, "`URL` of the prefix; only the options endpoint and region are allowed")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if u, err := url.Parse(*rawURL); err == nil && strings.Trim(u.Path, "/") == "" {
			return fmt.Errorf("--store %s names a whole bucket: add a prefix", *rawURL)
		}
		bucket, err := cloud.OpenBucket(cmd.Context(), *rawURL)
		if err != nil {
			return fmt.Errorf("--store: %w", err)
		}
		if c, ok := bucket.(io.Closer); ok {
			defer func() { err = errors.Join(err, c.Close()) }()
		}
		n, err := removeAll(cmd.Context(), bucket)
		if err != nil {
			return err
		}
		fmt.Printf("deleted %d objects\n", n)
		return nil
	}
	return cmd
}

// retry calls request until it succeeds, fails permanently, or makes no progress for a minute. request
// may increase *done to report progress.
func retry(ctx context.Context, done *int, request func(ctx context.Context) error) error {
	return objstore.Retry(ctx, time.Minute, 0, done, request)
}

func removeAll(ctx context.Context, bucket objstore.Bucket) (n int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	const concurrentDeletes = 16
	names := make(chan string)
	var workers sync.WaitGroup
	for range concurrentDeletes {
		workers.Go(func() {
			for name := range names {
				err := retry(ctx, nil, func(ctx context.Context) error { return bucket.Delete(ctx, name) })
				if err != nil {
					cancel(fmt.Errorf("deleting %s: %w", name, err))
				}
			}
		})
	}
	lastName := ""
	// Ignore the context that retry passes, because its time limit is too short for slow deletions.
	err = retry(ctx, &n, func(context.Context) error {
		for o, err := range bucket.List(ctx, "", lastName) {
			if err != nil || ctx.Err() != nil {
				return err
			}
			names <- o.Name
			n, lastName = n+1, o.Name
		}
		return nil
	})
	close(names)
	workers.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return n, err
}
