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

// newRemove is the command that deletes stores at once.
func newRemove() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove --store URL",
		Short: "Delete all objects below a prefix of a bucket",
		Long: `Delete all objects whose names begin with PREFIX/ of s3://BUCKET/PREFIX: the store
there, and all stores below it. Nobody may use them. There is no way back.`,
		Example: "  partd-cloud remove --store s3://bucket/jobs/7?region=eu-central-1",
		Args:    cobra.NoArgs,
	}
	rawURL := cmd.Flags().String("store", "", "`URL` of the prefix, with no options but endpoint and region")
	if err := cmd.MarkFlagRequired("store"); err != nil {
		panic(err) // the program is wrong
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if u, err := url.Parse(*rawURL); err == nil && strings.Trim(u.Path, "/") == "" {
			return fmt.Errorf("--store %s is a whole bucket: name a prefix in it", *rawURL)
		}
		bucket, err := cloud.OpenBucket(cmd.Context(), *rawURL)
		if err != nil {
			return fmt.Errorf("--store: %w", err)
		}
		if c, ok := bucket.(io.Closer); ok {
			defer func() { err = errors.Join(err, c.Close()) }()
		}
		n, err := removeAll(cmd.Context(), bucket)
		if err == nil {
			fmt.Printf("deleted %d objects\n", n)
		}
		return err
	}
	return cmd
}

// retry makes a request again for a minute, which begins again with what was done.
func retry(ctx context.Context, done *int, request func(ctx context.Context) error) error {
	return objstore.Retry(ctx, time.Minute, 0, done, request)
}

// removeAll deletes what a bucket lists, and returns how many objects that were.
func removeAll(ctx context.Context, bucket objstore.Bucket) (n int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	const requests = 16 // at a time
	names := make(chan string)
	var deleting sync.WaitGroup
	for range requests {
		deleting.Go(func() {
			for name := range names {
				err := retry(ctx, nil, func(ctx context.Context) error { return bucket.Delete(ctx, name) })
				if err != nil {
					cancel(fmt.Errorf("deleting %s: %w", name, err))
				}
			}
		})
	}
	after := ""
	err = retry(ctx, &n, func(context.Context) error { // for longer than a request may take: it waits for deletions
		for o, err := range bucket.List(ctx, "", after) {
			if err != nil || ctx.Err() != nil {
				return err
			}
			names <- o.Name
			n, after = n+1, o.Name
		}
		return nil
	})
	close(names)
	deleting.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return n, err
}
