// Package cloud opens stores in S3, S3-compatible and Google Cloud Storage buckets, given
// their URLs:
//
//	s3://BUCKET/PREFIX?region=REGION&endpoint=https://HOST
//	gs://BUCKET/PREFIX
//
// Credentials come from the same sources that the clouds' own programs use. For S3, these are
// the variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, the file
// ~/.aws/credentials, and the machine's role. For Google, they are the application default
// credentials. Pass [Schemes] to [stores.NewSet]:
//
//	store, err := stores.NewSet(cloud.Schemes()...).Open(ctx, "s3://bucket/prefix?region=eu-central-1", nil)
package cloud

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/stores"
)

// Schemes returns the schemes s3 and gs.
func Schemes() []stores.Scheme {
	commonOptions := []stores.Option{
		{Name: "memory", Usage: "SIZE", Default: "512MiB", Help: "maximum memory", Check: check(stores.ParseSize)},
		{Name: "segment", Usage: "SIZE", Default: "64MiB", Help: "size of the data to buffer before an upload; at most a seventh of memory", Check: check(stores.ParseSize)},
		{Name: "disk", Usage: "SIZE", Default: "0", Help: "maximum size of readers' temporary files, with which a large store is read in one pass; 0 means no files but many passes", Check: check(diskSize)},
		{Name: "disk-dir", Usage: "DIR", Default: "$TMPDIR, or /tmp", Help: "directory for readers' temporary files"},
		{Name: "readonly", Usage: "true|false", Default: "false", Help: "open for reading only; needs no permission to write to the bucket", Check: check(strconv.ParseBool)},
		{Name: "retry", Usage: "DURATION", Default: "1m", Help: "how long to retry a failed request", Check: check(retryTime)},
		{Name: "endpoint", Usage: "URL", Default: "the cloud provider's", Help: "server, such as http://127.0.0.1:7070"},
	}
	scheme := func(name, help string, options ...stores.Option) stores.Scheme {
		return stores.Scheme{
			Name: name, Usage: name + "://BUCKET/PREFIX", Help: help, Options: append(options, commonOptions...),
			Open: func(ctx context.Context, location string, o map[string]string) (partd.Partd, error) {
				return open(ctx, name, location, o)
			},
			Exists: func(location string, o map[string]string) (bool, error) {
				ctx := context.Background()
				b, err := newBucket(ctx, name, location, o)
				if err != nil {
					return false, err
				}
				exists, err := objstore.Exists(ctx, b)
				return exists, errors.Join(err, closeBucket(b))
			},
		}
	}
	return []stores.Scheme{
		scheme("s3", "a bucket in S3 or on a compatible server, which many processes and machines can share",
			stores.Option{Name: "region", Usage: "NAME", Default: "$AWS_REGION, or us-east-1", Help: "region of the bucket"}),
		scheme("gs", "a Google Cloud Storage bucket, which many processes and machines can share"),
	}
}

// newBucket returns the bucket of a location, BUCKET/PREFIX.
func newBucket(ctx context.Context, scheme, location string, o map[string]string) (objstore.Bucket, error) {
	name, prefix, _ := strings.Cut(location, "/")
	if name == "" || strings.Contains(name, "@") {
		return nil, fmt.Errorf("%q: write %s://BUCKET/PREFIX", textfmt.RedactURL(scheme+"://"+location), scheme)
	}
	prefix = strings.Trim(prefix, "/")
	if prefix != "" {
		prefix += "/"
	}
	if scheme == "gs" {
		return openGCS(ctx, name, prefix, o["endpoint"])
	}
	region := cmp.Or(o["region"], os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), "us-east-1")
	return openS3(name, prefix, region, cmp.Or(o["endpoint"], os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL")))
}

// parseEndpoint returns the URL of a server. It refuses a user and password, because requests would ignore them and
// messages would show them.
func parseEndpoint(endpoint, usage string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	switch {
	case strings.Contains(endpoint, "@"):
		return nil, errors.New("endpoint: remove the user and password, because credentials come from the environment")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("endpoint %q: %s", endpoint, usage)
	}
	return u, nil
}

// OpenBucket returns a Bucket with the objects below a URL such as s3://BUCKET/PREFIX. It makes no
// request. If the bucket is an io.Closer, the caller must close it.
func OpenBucket(ctx context.Context, rawURL string) (objstore.Bucket, error) {
	u, err := url.Parse(rawURL)
	if failure, ok := errors.AsType[*url.Error](err); ok {
		return nil, fmt.Errorf("%q: %w", textfmt.RedactURL(rawURL), failure.Err)
	}
	if strings.Contains(rawURL, "#") { // unlike url.Parse, stores do not treat # as the start of a fragment
		return nil, fmt.Errorf("%q: write a # in a PREFIX as %%23", textfmt.RedactURL(rawURL))
	}
	if u.User != nil {
		return nil, fmt.Errorf("%q: remove the user and password, because credentials come from the environment", textfmt.RedactURL(rawURL))
	}
	allowed := map[string][]string{"s3": {"endpoint", "region"}, "gs": {"endpoint"}}[u.Scheme]
	if allowed == nil {
		return nil, fmt.Errorf("scheme %q: use s3 or gs", u.Scheme)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, err
	}
	options := map[string]string{}
	for name, values := range query {
		if !slices.Contains(allowed, name) || len(values) > 1 {
			return nil, fmt.Errorf("option %q of %s: use each of %q at most once", name, u.Scheme, allowed)
		}
		options[name] = values[0]
	}
	return newBucket(ctx, u.Scheme, u.Host+u.Path, options)
}

// remote holds what the buckets of all clouds have in common.
type remote struct {
	transport *http.Transport
	url       string // without options
	bucket    string
	prefix    string // empty, or ends with a slash
}

func newRemote(scheme, bucket, prefix string, transport *http.Transport) remote {
	transport.MaxIdleConnsPerHost = 64
	transport.DisableCompression = true
	return remote{transport, strings.TrimSuffix(scheme+"://"+bucket+"/"+prefix, "/"), bucket, prefix}
}

func (r *remote) String() string { return r.url }

// Close closes idle connections.
func (r *remote) Close() error {
	r.transport.CloseIdleConnections()
	return nil
}

// toStoreError converts err to an error as [objstore.Bucket] specifies, with the object's path. status is the
// response's status. After a transient error or status 409, it is unknown whether the object exists.
func (r *remote) toStoreError(err error, name string, status int) error {
	path := r.url + "/" + name
	switch {
	case status == http.StatusPreconditionFailed:
		return fmt.Errorf("%s: %w", path, fs.ErrExist)
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooManyRequests, status < 400, status >= 500:
		return fmt.Errorf("%s: %w", path, err)
	}
	return fmt.Errorf("%s: %w: %w", path, objstore.ErrRefused, err)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum returns the checksum of an object's data, as both clouds expect it.
func checksum(data []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, castagnoli)))
}

func closeBucket(b objstore.Bucket) error {
	if c, ok := b.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func open(ctx context.Context, scheme, location string, o map[string]string) (*Store, error) {
	b, err := newBucket(ctx, scheme, location, o)
	if err != nil {
		return nil, err
	}
	opts := &objstore.Options{}
	// The options' Check functions have checked the values.
	opts.Memory, _ = stores.ParseSize(cmp.Or(o["memory"], "512MiB"))
	opts.SegmentSize, _ = stores.ParseSize(cmp.Or(o["segment"], "64MiB"))
	opts.Disk, _ = diskSize(o["disk"])
	opts.DiskDir = o["disk-dir"]
	opts.ReadOnly, _ = strconv.ParseBool(cmp.Or(o["readonly"], "false"))
	opts.RetryFor, _ = time.ParseDuration(cmp.Or(o["retry"], "1m"))
	counter := objstore.NewCounter(b)
	s, err := objstore.Open(ctx, counter, opts)
	if err != nil {
		return nil, errors.Join(err, closeBucket(b))
	}
	return &Store{s, counter}, nil
}

// check returns the Check function for an option. It rejects values for which parse returns an
// error.
func check[T any](parse func(value string) (T, error)) func(string) error {
	return func(value string) error {
		_, err := parse(value)
		return err
	}
}

func retryTime(value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err == nil && d <= 0 {
		err = errors.New("must be positive")
	}
	return d, err
}

func diskSize(value string) (int64, error) {
	if value == "" || value == "0" {
		return 0, nil
	}
	return stores.ParseSize(value)
}

// Store is a store in a cloud bucket. It counts its requests.
type Store struct {
	*objstore.Store
	counter *objstore.Counter
}

// Requests returns the number of requests so far.
func (s *Store) Requests() objstore.Requests { return s.counter.Requests() }

// Close closes the store and its connections.
func (s *Store) Close() error {
	if err := s.Store.Close(); err != nil {
		return err // the store remains open
	}
	return closeBucket(s.counter.Bucket)
}
