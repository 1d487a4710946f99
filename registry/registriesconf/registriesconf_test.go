package registriesconf_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/registry/reference"
	"github.com/imgbuild/imgbuild/registry/registriesconf"
)

const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// tree writes files below a new directory and returns it.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for _, p := range pairs {
			if value, ok := strings.CutPrefix(p, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

func load(t *testing.T, text string) *registriesconf.Config {
	t.Helper()
	dir := tree(t, map[string]string{"r.conf": text})
	c, err := registriesconf.Load(registriesconf.Options{Getenv: environment(), File: dir + "/r.conf", Root: dir})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func parse(t *testing.T, s string) reference.Reference {
	t.Helper()
	r, err := reference.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func places(list []registriesconf.Endpoint) []string {
	var out []string
	for _, e := range list {
		text := e.Reference.String()
		if e.Insecure {
			text += " insecure"
		}
		if e.Mirror {
			text += " mirror"
		}
		out = append(out, text)
	}
	return out
}

func TestPullFrom(t *testing.T) {
	c := load(t, `
[[registry]]
prefix = "example.com/foo"
location = "internal.example.net/bar"
[[registry.mirror]]
location = "mirror-0.local/mirror-for-foo"
[[registry.mirror]]
location = "mirror-1.local/mirrors/foo"
insecure = true

[[registry]]
location = "registry.com"
mirror-by-digest-only = true
[[registry.mirror]]
location = "mirror.registry.com"

[[registry]]
location = "mixed.example:5000"
insecure = true
[[registry.mirror]]
location = "digests.example"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "tags.example"
pull-from-mirror = "tag-only"

[[registry]]
prefix = "*.wild.example"
insecure = true
[[registry]]
prefix = "*.deep.wild.example"
location = "deep.example/d"

[[registry]]
prefix = "example.com/foo/one:1"
location = "one.example/x:2"

[[registry]]
prefix = "docker.io"
location = "hub.local:5000"
`)
	for in, want := range map[string][]string{
		"example.com/foo/image:latest": {"mirror-0.local/mirror-for-foo/image:latest mirror",
			"mirror-1.local/mirrors/foo/image:latest insecure mirror", "internal.example.net/bar/image:latest"},
		"example.com/foobar:1":           {"example.com/foobar:1"},
		"example.com/foo:1":              {"mirror-0.local/mirror-for-foo:1 mirror", "mirror-1.local/mirrors/foo:1 insecure mirror", "internal.example.net/bar:1"},
		"example.com/foo/one:1":          {"one.example/x:2"},
		"registry.com/a:1":               {"registry.com/a:1"},
		"registry.com/a@" + digest:       {"mirror.registry.com/a@" + digest + " mirror", "registry.com/a@" + digest},
		"registry.com:5000/a":            {"registry.com:5000/a"},
		"mixed.example:5000/a:1":         {"tags.example/a:1 mirror", "mixed.example:5000/a:1 insecure"},
		"mixed.example:5000/a@" + digest: {"digests.example/a@" + digest + " mirror", "mixed.example:5000/a@" + digest + " insecure"},
		"a.wild.example/x":               {"a.wild.example/x insecure"},
		"b.a.wild.example/x":             {"b.a.wild.example/x insecure"},
		"wild.example/x":                 {"wild.example/x"},
		"x.deep.wild.example/x:1":        {"deep.example/d/x:1"},
		"docker://docker.io/debian:12":   {"docker://hub.local:5000/library/debian:12"},
		"other.example/a/wild.example/b": {"other.example/a/wild.example/b"},
	} {
		list, err := c.PullFrom(parse(t, in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if diff := cmp.Diff(want, places(list)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", in, diff)
		}
	}
	to, err := c.PushTo(parse(t, "example.com/foo/image:1"))
	if err != nil || to.Reference.String() != "internal.example.net/bar/image:1" || to.Mirror {
		t.Errorf("PushTo = %+v, %v", to, err)
	}
}

func TestBlocked(t *testing.T) {
	c := load(t, "[[registry]]\nlocation = \"bad.example\"\nblocked = true\n[[registry.mirror]]\nlocation = \"m.example\"\n")
	_, err := c.PullFrom(parse(t, "bad.example/a:1"))
	var blocked *registriesconf.BlockedError
	if !errors.As(err, &blocked) || !strings.HasSuffix(err.Error(), "r.conf:1") {
		t.Errorf("PullFrom = %v, want a BlockedError that names the file and line 1", err)
	}
	if _, err := c.PushTo(parse(t, "bad.example/a:1")); !errors.As(err, &blocked) {
		t.Errorf("PushTo = %v, want a BlockedError", err)
	}
}

func names(t *testing.T, c *registriesconf.Config, short string) (string, error) {
	t.Helper()
	list, err := c.Names(parse(t, short))
	var out []string
	for _, r := range list {
		out = append(out, r.String())
	}
	return strings.Join(out, " "), err
}

func TestShortNames(t *testing.T) {
	text := `
unqualified-search-registries = ["one.example", "docker.io", "two.example:5000/ns"]
[aliases]
"leap" = "registry.opensuse.org/opensuse/leap"
"suse/sle" = "registry.suse.com/suse/sle"
`
	c := load(t, text)
	for in, want := range map[string]string{
		"debian:12":      "one.example/debian:12 docker.io/library/debian:12 two.example:5000/ns/debian:12",
		"leap:15.3":      "registry.opensuse.org/opensuse/leap:15.3",
		"leap@" + digest: "registry.opensuse.org/opensuse/leap@" + digest,
		"suse/sle":       "registry.suse.com/suse/sle",
		"h.example/leap": "h.example/leap",
		"localhost/leap": "localhost/leap",
	} {
		if got, err := names(t, c, in); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
	c = load(t, "short-name-mode = \"enforcing\"\n"+text)
	if _, err := names(t, c, "debian"); err == nil || !strings.Contains(err.Error(), "enforcing") {
		t.Errorf("enforcing with three registries gave %v", err)
	}
	if got, err := names(t, c, "leap"); err != nil || got != "registry.opensuse.org/opensuse/leap" {
		t.Errorf("an alias under enforcing gave %s, %v", got, err)
	}
	if _, err := names(t, load(t, ""), "debian:12"); err == nil || !strings.Contains(err.Error(), "docker.io/library/debian:12") {
		t.Errorf("no search list gave %v", err)
	}
}

func TestVersion1(t *testing.T) {
	c := load(t, "[registries.search]\nregistries = ['one.example']\n[registries.insecure]\nregistries = ['in.example']\n[registries.block]\nregistries = ['bad.example']\n")
	if got, err := names(t, c, "a"); err != nil || got != "one.example/a" {
		t.Errorf("search list of version 1: %s, %v", got, err)
	}
	if e, err := c.PushTo(parse(t, "in.example/a")); err != nil || !e.Insecure {
		t.Errorf("insecure of version 1: %+v, %v", e, err)
	}
	if _, err := c.PushTo(parse(t, "bad.example/a")); err == nil {
		t.Error("block of version 1 has no effect")
	}
}

func TestFilesInOrder(t *testing.T) {
	root := tree(t, map[string]string{
		"etc/containers/registries.conf":                      "unqualified-search-registries=['main.example']\n[[registry]]\nlocation='a.example'\ninsecure=true\n",
		"etc/containers/registries.conf.d/00-a.conf":          "[aliases]\nx='a.example/x'\ny='a.example/y'\nz='a.example/z'\n",
		"etc/containers/registries.conf.d/10-b.conf":          "[aliases]\nx='b.example/x'\nz=''\n[[registry]]\nlocation='a.example'\n",
		"etc/containers/registries.conf.d/ignored":            "!!!",
		"home/.config/containers/registries.conf.d/user.conf": "unqualified-search-registries=['user.example']\n",
		"home/.cache/containers/short-name-aliases.conf":      "unqualified-search-registries=['never.example']\n[aliases]\ny='cache.example/y'\n",
	})
	c, err := registriesconf.Load(registriesconf.Options{Getenv: environment("HOME=" + root + "/home"), Root: root, Rootless: true})
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{"x": "b.example/x", "y": "cache.example/y", "z": "user.example/z", "other": "user.example/other"} {
		if got, err := names(t, c, in); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
	if e, err := c.PushTo(parse(t, "a.example/x")); err != nil || e.Insecure {
		t.Errorf("the later table does not win: %+v, %v", e, err)
	}
	user := tree(t, map[string]string{".config/containers/registries.conf": "unqualified-search-registries=['own.example']\n"})
	c, err = registriesconf.Load(registriesconf.Options{Getenv: environment("HOME=" + user), Root: root})
	if got, err2 := names(t, c, "other"); err != nil || err2 != nil || got != "own.example/other" {
		t.Errorf("the user's main file does not replace the system's: %s, %v, %v", got, err, err2)
	}
	env := environment("HOME="+root+"/home", "CONTAINERS_REGISTRIES_CONF="+root+"/absent.conf")
	if _, err := registriesconf.Load(registriesconf.Options{Getenv: env, Root: root}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a named file that does not exist gave %v", err)
	}
	if _, err := registriesconf.Load(registriesconf.Options{Getenv: environment(), Root: root + "/home"}); err != nil {
		t.Errorf("a machine without files gave %v", err)
	}
}

func TestErrorsHaveFileAndLine(t *testing.T) {
	for text, want := range map[string]string{
		"a = [\n":                                                                  ":1: ",
		"x=1\n[[registry]\n":                                                       ":3: ",
		"unqualified-search-registries = 3\n":                                      ":1: ",
		"\nunqualified-search-registries=['UP/x y']":                               ":2: ",
		"short-name-mode='maybe'":                                                  ":1: short-name-mode \"maybe\" isn't known",
		"[[registry]]\nlocation='ok.example'\n[[registry]]\n":                      ":3: a [[registry]] needs prefix or location",
		"[[registry]]\nlocation='b@d.example'\n":                                   ":1: prefix: ",
		"[[registry]]\nprefix='a.example'\nlocation='UP CASE'\n":                   ":1: location: ",
		"[[registry]]\nlocation='a.example'\n[[registry]]\nlocation='a.example'\n": ":3: the prefix \"a.example\" has a table already",
		"[[registry]]\nlocation='a.example'\n[[registry.mirror]]\n":                ":1: mirror: ",
		"[[registry]]\nlocation='a.example'\n[[registry.mirror]]\nlocation='m.example'\npull-from-mirror='some'\n": "pull-from-mirror \"some\"",
		"[aliases]\n\"h.example/x\"=\"h.example/y\"\n":                                                             ":2: ",
		"[aliases]\nx=\"nodomain\"\n":                                                                              ":2: the alias \"x\"",
		"unqualified-search-registries=[]\n[registries.search]\nregistries=['a.example']\n":                        ":2: version 1",
	} {
		dir := tree(t, map[string]string{"r.conf": text})
		_, err := registriesconf.Load(registriesconf.Options{Getenv: environment(), File: dir + "/r.conf", Root: dir})
		var e *registriesconf.Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), "r.conf"+want) && !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q gave %v, want %q", text, err, want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("unqualified-search-registries=['a.example']\n[[registry]]\nprefix='*.x.example'\n[[registry.mirror]]\nlocation='m.example/a'\n", "b.x.example/a:1")
	f.Add("[aliases]\nx='a.example/x'\n", "x:1")
	f.Add("[registries.search]\nregistries=['a.example']\n", "x")
	f.Add("[[registry]]\nprefix='a.example/b'\nlocation='c.example:1/d'\n", "a.example/b/c@"+digest)
	f.Fuzz(func(t *testing.T, text, name string) {
		path := filepath.Join(t.TempDir(), "r.conf")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := registriesconf.Load(registriesconf.Options{Getenv: environment(), File: path, Root: filepath.Dir(path)})
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("the error is not one line: %q", err)
			}
			return
		}
		r, err := reference.Parse(name)
		if err != nil {
			return
		}
		all, err := c.Names(r)
		if err != nil {
			return
		}
		for _, full := range all {
			if full.Domain == "" {
				continue
			}
			endpoints, err := c.PullFrom(full)
			if err == nil && (len(endpoints) == 0 || endpoints[len(endpoints)-1].Mirror) {
				t.Fatalf("%s: the registry itself is not the last endpoint: %v", full, endpoints)
			}
			for _, e := range endpoints {
				if e.Reference.Domain == "" || e.Reference.Repository == "" {
					t.Fatalf("%s: the endpoint %+v has no host", full, e)
				}
			}
		}
	})
}
