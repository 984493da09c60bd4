package textfmt

import "testing"

// TestRedactURL checks that no secret of a URL is left, and that other parts are.
func TestRedactURL(t *testing.T) {
	for rawURL, want := range map[string]string{
		"tls://me:SECRET@h:1":                            "tls://…@h:1",
		"tls://h:1,me:SECRET@i:1/n?ca=f":                 "tls://…@i:1/n?ca=f",
		"tcp://SEC/RET@h:1":                              "tcp://…@h:1",
		"s3://u:SEC@RET@bucket/p":                        "s3://…@bucket/p",
		"s3://u:SECRET%40bucket/p":                       "s3://…@bucket/p",
		"s3://b/p?endpoint=http://u:SECRET@h:1&retry=1s": "s3://b/p?endpoint=http://…@h:1&retry=1s",
		"s3://b/p?endpoint=http://u:SEC/RET@h:1":         "s3://b/p?endpoint=http://…@h:1",
		"s3://b/p?endpoint=u:SECRET@h:1":                 "s3://b/p?endpoint=…@h:1",
		"s3://b/p?endpoint=http%3A%2F%2Fu%3ASECRET%40h":  "s3://b/p?endpoint=…@h",
		"postgres://u:SECRET@h/d?password=SECRET&x=1":    "postgres://…@h/d?password=…&x=1",
		"tcp://h:1?token=SECRET&token-file=f":            "tcp://h:1?token=…&token-file=f",
		"s3://b/p?s3.secret-access-key=SECRET":           "s3://b/p?s3.secret-access-key=…",
		"S3://u:SECRET@b?Endpoint=http://u:SECRET@h:1":   "S3://…@b?Endpoint=http://…@h:1",
		"TCP://SEC/RET@h:1?Token=SECRET":                 "TCP://…@h:1?Token=…",
		"s3://b/p?access_key=SECRET&AWS_SECRET=SECRET":   "s3://b/p?access_key=…&AWS_SECRET=…",
		"file:/data/a@b?sync=true":                       "file:/data/a@b?sync=true",
		"log:a b":                                        "log:a b",
	} {
		if got := RedactURL(rawURL); got != want {
			t.Errorf("RedactURL(%q) = %q, want %q", rawURL, got, want)
		}
	}
	if got, want := RedactURLs("Get S3://u:SECRET@h: no"), "Get S3://…@h: no"; got != want {
		t.Errorf("RedactURLs = %q, want %q", got, want)
	}
	message := `store "s3://b/p?endpoint=http://u:SECRET@h": Get http://v:SECRET@h/k: me@example.com is not a: name`
	if got, want := RedactURLs(message), `store "s3://b/p?endpoint=http://…@h": Get http://…@h/k: me@example.com is not a: name`; got != want {
		t.Errorf("RedactURLs(%q) = %q, want %q", message, got, want)
	}
}
