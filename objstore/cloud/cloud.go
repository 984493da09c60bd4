// Package cloud opens stores in buckets of S3, of what speaks its protocol, and of
// Google Cloud Storage, by URL:
//
//	s3://BUCKET/PREFIX?region=REGION&endpoint=https://HOST
//	gs://BUCKET/PREFIX
//
// Credentials are found as the clouds' own programs find them: for S3 in the variables
// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, in the files
// ~/.aws/credentials, or by the role of the machine; for Google by its application default
// credentials. [Schemes] are for [stores.NewSet]:
//
//	store, err := stores.NewSet(cloud.Schemes()...).Open(ctx, "s3://bucket/prefix?region=eu-central-1", nil)
package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/stores"
)

// Schemes are s3 and gs.
func Schemes() []stores.Scheme {
	size := func(name, fallback, about string) stores.Option {
		return stores.Option{Name: name, Usage: "SIZE", Default: fallback, About: about, Check: func(value string) error {
			_, err := stores.ParseSize(value)
			return err
		}}
	}
	any := func(string) error { return nil }
	shared := []stores.Option{
		size("memory", "512MiB", "what it takes at the most"),
		size("segment", "64MiB", "what is gathered before it is uploaded, as far as a tenth of memory allows"),
		{Name: "readonly", Usage: "true|false", Default: "false", About: "make no object", Check: func(value string) error {
			_, err := strconv.ParseBool(value)
			return err
		}},
		{Name: "retry", Usage: "DURATION", Default: "1m", About: "how long a request is tried again", Check: func(value string) error {
			d, err := time.ParseDuration(value)
			if err == nil && d <= 0 {
				err = errors.New("it must be above 0")
			}
			return err
		}},
		{Name: "endpoint", Usage: "URL", Default: "the cloud's own", About: "the server, as http://127.0.0.1:7070", Check: any},
	}
	scheme := func(name, about string, options ...stores.Option) stores.Scheme {
		return stores.Scheme{
			Name: name, Usage: name + "://BUCKET/PREFIX", About: about, Options: append(options, shared...),
			Open: func(ctx context.Context, location string, o map[string]string) (partd.Partd, error) {
				return open(ctx, name, location, o)
			},
			Exists: func(location string, o map[string]string) (bool, error) {
				ctx := context.Background()
				b, err := bucket(ctx, name, location, o)
				if err != nil {
					return false, err
				}
				found, err := objstore.Exists(ctx, b)
				return found, errors.Join(err, closeBucket(b))
			},
		}
	}
	return []stores.Scheme{
		scheme("s3", "a bucket of S3, or of what speaks its protocol, for many processes and machines",
			stores.Option{Name: "region", Usage: "NAME", Default: "$AWS_REGION, or us-east-1", About: "of the bucket", Check: any}),
		scheme("gs", "a bucket of Google Cloud Storage, for many processes and machines"),
	}
}

// bucket returns the bucket of a location.
func bucket(ctx context.Context, scheme, location string, o map[string]string) (objstore.Bucket, error) {
	name, prefix, _ := strings.Cut(location, "/")
	if name == "" {
		return nil, fmt.Errorf("location %q: write %s://BUCKET/PREFIX", location, scheme)
	}
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		prefix += "/"
	}
	if scheme == "gs" {
		return openGCS(ctx, name, prefix, o["endpoint"])
	}
	region := cmp.Or(o["region"], os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), "us-east-1")
	return openS3(name, prefix, region, cmp.Or(o["endpoint"], os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL")))
}

// OpenBucket opens the bucket of a URL without a store in it: what is below PREFIX. It
// makes no request. Where the bucket is an io.Closer, the caller closes it.
func OpenBucket(ctx context.Context, rawURL string) (objstore.Bucket, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	known := map[string][]string{"s3": {"endpoint", "region"}, "gs": {"endpoint"}}[u.Scheme]
	if known == nil {
		return nil, fmt.Errorf("scheme %q: there are s3 and gs", u.Scheme)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, err
	}
	options := map[string]string{}
	for name, values := range query {
		if !slices.Contains(known, name) || len(values) > 1 {
			return nil, fmt.Errorf("option %q of %s: there are %q, each once", name, u.Scheme, known)
		}
		options[name] = values[0]
	}
	return bucket(ctx, u.Scheme, u.Host+u.Path, options)
}

func closeBucket(b objstore.Bucket) error {
	if c, ok := b.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func open(ctx context.Context, scheme, location string, o map[string]string) (*Store, error) {
	b, err := bucket(ctx, scheme, location, o)
	if err != nil {
		return nil, err
	}
	opts := &objstore.Options{}
	// The values have been checked.
	opts.Memory, _ = stores.ParseSize(cmp.Or(o["memory"], "512MiB"))
	opts.SegmentSize, _ = stores.ParseSize(cmp.Or(o["segment"], "64MiB"))
	opts.ReadOnly, _ = strconv.ParseBool(cmp.Or(o["readonly"], "false"))
	opts.RetryFor, _ = time.ParseDuration(cmp.Or(o["retry"], "1m"))
	counter := objstore.Count(b)
	s, err := objstore.Open(ctx, counter, opts)
	if err != nil {
		return nil, errors.Join(err, closeBucket(b))
	}
	return &Store{s, counter}, nil
}

// Store is a store in a bucket of a cloud, with the requests that it made.
type Store struct {
	*objstore.Store
	counter *objstore.Counter
}

// Requests are those that the store has made so far.
func (s *Store) Requests() objstore.Requests { return s.counter.Requests() }

// Close closes the store and its connections.
func (s *Store) Close() error {
	if err := s.Store.Close(); err != nil {
		return err // it stays open
	}
	return closeBucket(s.counter.Bucket)
}
