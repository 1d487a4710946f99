package podman

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
)

func mustTag(t *testing.T, s string) name.Tag {
	t.Helper()
	tag, err := name.NewTag(s)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{
		"leap":                 "localhost/leap:latest",
		"a/b:1":                "localhost/a/b:1",
		"localhost/leap:1":     "localhost/leap:1",
		"reg.example.org/leap": "reg.example.org/leap:latest",
		"localhost:5000/leap":  "localhost:5000/leap:latest",
	} {
		if got := fullName(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
