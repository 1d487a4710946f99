package container

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbuild/imgbuild/layers"
)

func TestWhatKeepsAContainerFromStarting(t *testing.T) {
	edit := layers.NewTree().Edit(layers.Timespec{})
	for name, data := range map[string]string{"usr/bin/app": "", "srv/run": "", "etc/passwd": "web:x:5:5::/:/bin/sh\n", "etc/group": "www:x:5:\n"} {
		if err := edit.WriteFile(name, []byte(data), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"bin": "usr/bin", "usr/bin/loop": "loop", "usr/bin/other": "/usr/bin/app"} {
		if err := edit.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	tree := edit.Tree()
	path := []string{"PATH=/usr/local/bin:/bin"}
	for _, c := range []struct {
		config v1.Config
		want   string // of the warning; "" for none
	}{
		{v1.Config{}, ""},
		{v1.Config{Cmd: []string{"/bin/other", "/none"}, User: "web:www"}, ""},
		{v1.Config{Entrypoint: []string{"app"}, Cmd: []string{"none"}, Env: path, User: "1000:1000"}, ""},
		{v1.Config{Cmd: []string{"./run"}, WorkingDir: "/srv", User: "web"}, ""},
		{v1.Config{Cmd: []string{"/bin/bash"}}, "program=/bin/bash"},
		{v1.Config{Cmd: []string{"run"}, Env: path, WorkingDir: "/srv"}, "program=run"},
		{v1.Config{Cmd: []string{"/bin/loop"}}, "program=/bin/loop"},
		{v1.Config{Cmd: []string{"/usr/bin/app/x"}}, "program=/usr/bin/app/x"},
		{v1.Config{Cmd: []string{"/usr/bin"}}, "program=/usr/bin"},
		{v1.Config{User: "www"}, "user=www"},
		{v1.Config{User: "web:web"}, "group=web"},
		{v1.Config{User: "-1"}, "user=-1"},
	} {
		var out bytes.Buffer
		checkStart(slog.New(slog.NewTextHandler(&out, nil)), tree, &c.config)
		if got := out.String(); c.want == "" && got != "" || !strings.Contains(got, c.want) || strings.Count(got, "\n") > 1 {
			t.Errorf("%+v: the warnings are %q, want %q", c.config, got, c.want)
		}
	}
}
