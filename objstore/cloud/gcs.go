package cloud

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"strings"

	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"

	"github.com/go-partd/partd/objstore"
)

// gcs is a bucket of Google Cloud Storage.
type gcs struct {
	client *storage.Client
	bucket *storage.BucketHandle
	name   string
	prefix string
}

// openGCS takes the application default credentials; STORAGE_EMULATOR_HOST names a
// server for tests.
func openGCS(ctx context.Context, bucket, prefix, endpoint string) (*gcs, error) {
	opts := []option.ClientOption{storage.WithJSONReads()}
	if endpoint != "" {
		opts = append(opts, option.WithEndpoint(endpoint), option.WithoutAuthentication())
	}
	client, err := storage.NewClient(ctx, opts...)
	if err != nil {
		return nil, err
	}
	// A retry that the store does not know of would turn "made" into "exists".
	client.SetRetry(storage.WithPolicy(storage.RetryNever))
	return &gcs{client, client.Bucket(bucket), bucket, prefix}, nil
}

func (b *gcs) String() string { return strings.TrimSuffix("gs://"+b.name+"/"+b.prefix, "/") }

// Close ends the client's connections.
func (b *gcs) Close() error { return b.client.Close() }

// Create makes an object by one request that has the generation 0 as its condition.
func (b *gcs) Create(ctx context.Context, name string, data []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := b.bucket.Object(b.prefix + name).If(storage.Conditions{DoesNotExist: true}).NewWriter(ctx)
	w.ChunkSize = 0 // one request
	w.ContentType = "application/octet-stream"
	w.CRC32C, w.SendCRC32C = crc32.Checksum(data, castagnoli), true
	_, err := w.Write(data) // which the writer copies from, through a pipe
	if err != nil {
		cancel()
	}
	return b.explain(errors.Join(err, w.Close()), name)
}

func (b *gcs) explain(err error, name string) error {
	if err == nil {
		return nil
	}
	where := b.String() + "/" + name
	var r *googleapi.Error
	errors.As(err, &r)
	switch {
	case errors.Is(err, storage.ErrObjectNotExist):
		return fmt.Errorf("%s: %w", where, fs.ErrNotExist)
	case r == nil:
		return err
	case r.Code == http.StatusPreconditionFailed:
		return fmt.Errorf("%s: %w", where, fs.ErrExist)
	case r.Code == http.StatusRequestTimeout, r.Code == http.StatusConflict, r.Code == http.StatusTooManyRequests, r.Code < 400, r.Code >= 500:
		return err
	}
	return fmt.Errorf("%s: %w: %w", where, objstore.ErrRefused, err)
}

// ReadRange reads a part of an object by one request.
func (b *gcs) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if length == 0 {
		return http.NoBody, nil
	}
	r, err := b.bucket.Object(b.prefix+name).NewRangeReader(ctx, offset, length)
	var api *googleapi.Error
	if errors.As(err, &api) && api.Code == http.StatusRequestedRangeNotSatisfiable {
		return http.NoBody, nil // the object ends before
	}
	if err != nil {
		return nil, b.explain(err, name)
	}
	return r, nil
}

// List lists objects, a thousand by each request.
func (b *gcs) List(ctx context.Context, prefix, after string) iter.Seq2[objstore.Object, error] {
	return func(yield func(objstore.Object, error) bool) {
		q := &storage.Query{Prefix: b.prefix + prefix}
		if after != "" {
			q.StartOffset = b.prefix + after + "\x00" // which is the first name behind it
		}
		if err := q.SetAttrSelection([]string{"Name", "Size", "Updated"}); err != nil {
			yield(objstore.Object{}, err)
			return
		}
		for it := b.bucket.Objects(ctx, q); ; {
			o, err := it.Next()
			if errors.Is(err, iterator.Done) {
				return
			}
			if err != nil {
				yield(objstore.Object{}, b.explain(err, prefix))
				return
			}
			if !yield(objstore.Object{Name: strings.TrimPrefix(o.Name, b.prefix), Size: o.Size, Modified: o.Updated}, nil) {
				return
			}
		}
	}
}

// Delete removes an object.
func (b *gcs) Delete(ctx context.Context, name string) error {
	err := b.explain(b.bucket.Object(b.prefix+name).Delete(ctx), name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
