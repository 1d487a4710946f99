package reference_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/registry/reference"
)

const (
	sha256Hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	sha512Hex = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce" +
		"47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
)

func TestParse(t *testing.T) {
	type ref = reference.Reference
	for _, test := range []struct {
		in   string
		want ref
		// text is what String gives when it is not in.
		text string
	}{
		{in: "leap:15.3", want: ref{Repository: "leap", Tag: "15.3"}},
		{in: "leap", want: ref{Repository: "leap"}},
		{in: "docker:27", want: ref{Repository: "docker", Tag: "27"}},
		{in: "opensuse/leap", want: ref{Repository: "opensuse/leap"}},
		{in: "localhost/leap:1", want: ref{Domain: "localhost", Repository: "leap", Tag: "1"}},
		{in: "localhost:5000/leap", want: ref{Domain: "localhost:5000", Repository: "leap"}},
		{in: "[::1]:5000/a/b:t", want: ref{Domain: "[::1]:5000", Repository: "a/b", Tag: "t"}},
		{in: "[2001:db8::7]/a", want: ref{Domain: "[2001:db8::7]", Repository: "a"}},
		{in: "10.0.0.1:443/a__b-c.d", want: ref{Domain: "10.0.0.1:443", Repository: "a__b-c.d"}},
		{in: "registry.example.org/a/b:tag@sha256:" + sha256Hex,
			want: ref{Domain: "registry.example.org", Repository: "a/b", Tag: "tag", Digest: "sha256:" + sha256Hex}},
		{in: "a@sha512:" + sha512Hex, want: ref{Repository: "a", Digest: "sha512:" + sha512Hex}},
		{in: "Registry.Example.org/a", want: ref{Domain: "Registry.Example.org", Repository: "a"}},
		{in: "docker.io/debian:12", want: ref{Domain: "docker.io", Repository: "library/debian", Tag: "12"}, text: "docker.io/library/debian:12"},
		{in: "index.docker.io/a/b", want: ref{Domain: "docker.io", Repository: "a/b"}, text: "docker.io/a/b"},
		{in: "docker://debian", want: ref{Transport: "docker", Domain: "docker.io", Repository: "library/debian"}, text: "docker://docker.io/library/debian"},
		{in: "docker://h.example/a:1", want: ref{Transport: "docker", Domain: "h.example", Repository: "a", Tag: "1"}},
		{in: "oci:/srv/layout", want: ref{Transport: "oci", Path: "/srv/layout"}},
		{in: "oci:layout:15.3", want: ref{Transport: "oci", Path: "layout", Image: "15.3"}},
		{in: "oci:layout:leap:15.3", want: ref{Transport: "oci", Path: "layout", Image: "leap:15.3"}},
		{in: "oci-archive:a.tar", want: ref{Transport: "oci-archive", Path: "a.tar"}},
		{in: "docker-archive:a.tar:leap:15.3", want: ref{Transport: "docker-archive", Path: "a.tar", Image: "leap:15.3"}},
		{in: "dir:/srv/a:b", want: ref{Transport: "dir", Path: "/srv/a:b"}},
		{in: "containers-storage:leap:1", want: ref{Transport: "containers-storage", Repository: "leap", Tag: "1"}},
		{in: "containers-storage:[overlay@/g+/r]localhost/leap",
			want: ref{Transport: "containers-storage", Path: "overlay@/g+/r", Domain: "localhost", Repository: "leap"}},
		{in: "containers-storage:@0123abcd", want: ref{Transport: "containers-storage", Image: "0123abcd"}},
	} {
		got, err := reference.Parse(test.in)
		if err != nil {
			t.Errorf("Parse(%q): %v", test.in, err)
			continue
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", test.in, diff)
		}
		text := test.text
		if text == "" {
			text = test.in
		}
		if got.String() != text {
			t.Errorf("Parse(%q).String() = %q, want %q", test.in, got, text)
		}
	}
}

func TestParseErrorsNameTheCharacter(t *testing.T) {
	for in, want := range map[string]string{
		"":                              `reading name "": the reference is wrong: it is empty`,
		"Leap:15.3":                     `reading name "Leap:15.3": character 1, "L", of the repository is wrong: capital letters aren't allowed, only a-z, 0-9 and . _ - / between them; "leap:15.3" would do`,
		"h.example/My Image:1":          `reading name "h.example/My Image:1": character 11, "M", of the repository is wrong: capital letters aren't allowed, only a-z, 0-9 and . _ - / between them; "h.example/my-image:1" would do`,
		"lösung":                        `reading name "lösung": character 2, "ö", of the repository is wrong: only a-z, 0-9 and . _ - / between them are allowed; "l-sung" would do`,
		"a..b":                          `reading name "a..b": character 3, ".", of the repository is wrong: between letters and digits stands one '.', one or two '_' or any number of '-'; "a.b" would do`,
		"-a":                            `reading name "-a": character 1, "-", of the repository is wrong: each part between slashes begins with a letter or digit; "a" would do`,
		"a-":                            `reading name "a-": character 2, "-", of the repository is wrong: each part between slashes ends with a letter or digit; "a" would do`,
		"a//b":                          `reading name "a//b": character 3, "/", of the repository is wrong: each part between slashes needs a letter or digit; "a/b" would do`,
		"a/":                            `reading name "a/": character 2, "/", of the repository is wrong: each part between slashes needs a letter or digit; "a" would do`,
		"leap:15+3":                     `reading name "leap:15+3": character 8, "+", of the tag is wrong: only letters, digits and . _ - are allowed; "leap:15-3" would do`,
		"leap:":                         `reading name "leap:": the tag is wrong: it is empty; "leap:latest" would do`,
		"a\xffb":                        `reading name "a\xffb": character 2, "\xff", of the repository is wrong: only a-z, 0-9 and . _ - / between them are allowed; "a-b" would do`,
		"h.example:99999/a":             `reading name "h.example:99999/a": the registry is wrong: a port is a number from 1 to 65535`,
		"h.example:5x/a":                `reading name "h.example:5x/a": character 12, "x", of the registry is wrong: a port is a number`,
		"::1/a":                         `reading name "::1/a": character 2, ":", of the registry is wrong: a registry has one port, and an IPv6 address stands in brackets`,
		"[::g]/a":                       `reading name "[::g]/a": the registry is wrong: in brackets there must be an IPv6 address, such as [::1]:5000`,
		"h_x.example/a":                 `reading name "h_x.example/a": character 2, "_", of the registry is wrong: a host name has only letters, digits, '-' and '.'`,
		"a@sha256:12":                   `reading name "a@sha256:12": the digest is wrong: sha256 has 64 hexadecimal digits, not 2`,
		"a@md5:12":                      `reading name "a@md5:12": the digest is wrong: "md5" is no known algorithm; sha256 and sha512 are`,
		"https://h.example/a":           `reading name "https://h.example/a": the reference is wrong: a reference has no https://; "h.example/a" would do`,
		"oci:":                          `reading name "oci:": the path is wrong: there is no directory after oci:`,
		"oci:d:":                        `reading name "oci:d:": character 6, ":", of the path is wrong: nothing follows the colon after the directory; "oci:d" would do`,
		"docker-daemon:a:b":             `reading name "docker-daemon:a:b": the transport is wrong: the Docker daemon isn't read; save the container with docker save -o FILE and use docker-archive:FILE`,
		"containers-storage:[x":         `reading name "containers-storage:[x": character 20, "[", of the store is wrong: the bracket is never closed`,
		sha256Hex:                       `reading name "` + sha256Hex + `": the name is wrong: 64 hexadecimal digits are an image id and no name; "containers-storage:@` + sha256Hex + `" would do`,
		strings.Repeat("a/", 200) + "a": `reading name "` + strings.Repeat("a/", 200) + `a": the name is wrong: it is longer than 255 bytes`,
	} {
		_, err := reference.Parse(in)
		if err == nil {
			t.Errorf("Parse(%q) succeeded", in)
			continue
		}
		if diff := cmp.Diff(want, err.Error()); diff != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", in, diff)
		}
	}
}

func TestIn(t *testing.T) {
	for _, test := range []struct{ name, registry, want string }{
		{"leap:15.3", "registry.example.org", "registry.example.org/leap:15.3"},
		{"leap:15.3", "docker://registry.example.org:5000/suse/", "registry.example.org:5000/suse/leap:15.3"},
		{"leap", "docker.io", "docker.io/library/leap"},
		{"leap", "localhost", "localhost/leap"},
		{"h.example/leap", "registry.example.org", "h.example/leap"},
		{"dir:x", "registry.example.org", "dir:x"},
	} {
		r, err := reference.Parse(test.name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.In(test.registry)
		if err != nil || got.String() != test.want {
			t.Errorf("%s in %s = %s, %v; want %s", test.name, test.registry, got, err, test.want)
		}
	}
	r, _ := reference.Parse("leap")
	for _, bad := range []string{"", "reg istry", "h.example/UP", "h.example:0", "h.example//x", "opensuse", "opensuse/x"} {
		if got, err := r.In(bad); err == nil {
			t.Errorf("leap in %q = %s, want an error", bad, got)
		}
	}
}

func TestIdentifier(t *testing.T) {
	for in, want := range map[string]string{
		"a":                       "latest",
		"a:1":                     "1",
		"a:1@sha256:" + sha256Hex: "sha256:" + sha256Hex,
		"h.example/a":             "latest",
	} {
		r, err := reference.Parse(in)
		if err != nil || r.Identifier() != want {
			t.Errorf("%q: Identifier() = %q, %v; want %q", in, r.Identifier(), err, want)
		}
	}
}

func TestCheckTag(t *testing.T) {
	for _, good := range []string{"latest", "15.3", "_x", "A-b.C", strings.Repeat("x", 128)} {
		if err := reference.CheckTag(good); err != nil {
			t.Error(err)
		}
	}
	for bad, suggestion := range map[string]string{"": "latest", ".x": "x", "a b": "a-b", "a/b": "a-b",
		strings.Repeat("x", 129): strings.Repeat("x", 128)} {
		var e *reference.Error
		if err := reference.CheckTag(bad); !errors.As(err, &e) || e.Suggestion != suggestion {
			t.Errorf("CheckTag(%q) = %v, want the suggestion %q", bad, err, suggestion)
		}
	}
}

func TestSuggest(t *testing.T) {
	for in, want := range map[string]string{
		"Leap":               "leap",
		"My Image":           "my-image",
		"a___b":              "a__b",
		"a.-b":               "a-b",
		"h.example/Foo//Bar": "h.example/foo/bar",
		"":                   "image",
		"!!!":                "image",
		"leap:15.3":          "leap-15.3",
		"LimeJeOS-Leap_15.3": "limejeos-leap_15.3",
		"a--b":               "a--b",
	} {
		if got := reference.Suggest(in); got != want {
			t.Errorf("Suggest(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestSuggestionsAreGood makes names of random characters and expects of every suggestion that it is a good name, and of
// every good name that it is suggested unchanged.
func TestSuggestionsAreGood(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	alphabet := []string{"a", "b", "0", "Z", ".", "_", "-", "/", ":", "@", " ", "ö", "\xff", "localhost", "h.example", "[::1]", "5000", sha256Hex}
	for range 50_000 {
		var b strings.Builder
		for range random.IntN(9) {
			b.WriteString(alphabet[random.IntN(len(alphabet))])
		}
		checkSuggestion(t, b.String())
	}
}

func checkSuggestion(t *testing.T, name string) {
	t.Helper()
	good := reference.Suggest(name)
	if err := reference.CheckName(good); err != nil {
		t.Errorf("Suggest(%q) = %q: %v", name, good, err)
	}
	err := reference.CheckName(name)
	if err == nil && good != name {
		t.Errorf("%q is good but Suggest makes %q of it", name, good)
	}
	var e *reference.Error
	if err != nil && (!errors.As(err, &e) || e.Suggestion != good) {
		t.Errorf("CheckName(%q) = %v, want the suggestion %q", name, err, good)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"leap:15.3", "registry.example.org:5000/a/b:tag@sha256:" + sha256Hex, "docker://a", "oci:d:r", "oci-archive:f",
		"docker-archive:f:@0", "containers-storage:[overlay@/g+/r]a", "containers-storage:@ab", "dir:/x", "[::1]:5000/a", "localhost/a",
		"A/b", "a..b", "http://x", "\xff", "a@sha512:" + sha512Hex} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		checkSuggestion(t, s)
		r, err := reference.Parse(s)
		if err != nil {
			checkError(t, s, err)
			return
		}
		again, err := reference.Parse(r.String())
		if err != nil {
			t.Fatalf("Parse(%q).String() = %q, which does not parse: %v", s, r, err)
		}
		if diff := cmp.Diff(r, again); diff != "" {
			t.Fatalf("Parse(%q) written as %q reads differently (-first +again):\n%s", s, r, diff)
		}
		if r.Repository != "" && r.Transport != reference.ContainersStorage {
			if err := reference.CheckName(r.Name()); err != nil && r.Tag == "" && r.Digest == "" {
				t.Fatalf("Parse(%q) has the bad name %q: %v", s, r.Name(), err)
			}
		}
	})
}

func checkError(t *testing.T, s string, err error) {
	t.Helper()
	var e *reference.Error
	if !errors.As(err, &e) {
		t.Fatalf("Parse(%q) = %T", s, err)
	}
	if e.Offset >= len(s) && s != "" {
		t.Fatalf("Parse(%q): offset %d is beyond the end", s, e.Offset)
	}
	if strings.ContainsAny(err.Error(), "\n\r") || !utf8.ValidString(err.Error()) {
		t.Fatalf("Parse(%q): the error is not one clean line: %q", s, err)
	}
	if e.Suggestion != "" {
		if _, err := reference.Parse(e.Suggestion); err != nil {
			t.Fatalf("Parse(%q) suggests %q, which does not parse: %v", s, e.Suggestion, err)
		}
	}
}
