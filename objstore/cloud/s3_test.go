package cloud

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-partd/partd/objstore"
)

// TestDeleteOfMissing checks that deleting a missing object succeeds, because a gateway such as versitygw answers
// 404 if another client deletes the object at the same time. A missing bucket must be an error.
func TestDeleteOfMissing(t *testing.T) {
	code := "NoSuchKey"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>none</Message></Error>", code)
	}))
	defer s.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "user")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secretsecret")
	bucket, err := OpenBucket(t.Context(), "s3://bucket/jobs?endpoint="+s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if err := bucket.Delete(t.Context(), "segment"); err != nil {
		t.Errorf("Delete() of a missing object: error = %v, want none", err)
	}
	code = "NoSuchBucket"
	if err := bucket.Delete(t.Context(), "segment"); !errors.Is(err, objstore.ErrRefused) {
		t.Errorf("Delete() in a missing bucket: error = %v, want %v", err, objstore.ErrRefused)
	}
}
