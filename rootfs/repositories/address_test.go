package repositories

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseAddress(t *testing.T) {
	for raw, want := range map[string]address{
		"http://deb.debian.org/debian":                    {uri: "http://deb.debian.org/debian"},
		"https://user:p%40w@host:8443/a/b/?x=1#frag":      {uri: "https://host:8443/a/b/?x=1", user: "user", password: "p@w"},
		"https://host/$releasever/${basearch}/":           {uri: "https://host/$releasever/${basearch}/"},
		"ftp://host/pub":                                  {uri: "ftp://host/pub"},
		"https://host/repo?credentials=mine":              {uri: "https://host/repo", credentials: "mine"},
		"https://host/repo?a=b&credentials=%2Fetc%2Fx&c":  {uri: "https://host/repo?a=b&c", credentials: "/etc/x"},
		"https://[::1]:80/repo":                           {uri: "https://[::1]:80/repo"},
		"obs://openSUSE:Leap:15.6/standard":               {uri: "https://obs.example/base/openSUSE:/Leap:/15.6/standard", user: "u", password: "s"},
		"obs://Virtualization:/Appliances:/Builder/Fed_1": {uri: "https://obs.example/base/Virtualization:/Appliances:/Builder/Fed_1", user: "u", password: "s"},
		"/srv/repo":                        {kind: directory, path: "/srv/repo"},
		"dir:///srv/re%20po":               {kind: directory, path: "/srv/re po"},
		"dir:/srv/repo":                    {kind: directory, path: "/srv/repo"},
		"file://localhost/srv/repo":        {kind: directory, path: "/srv/repo"},
		"file:sub/repo":                    {kind: directory, path: "sub/repo"},
		"this://repo":                      {kind: directory, path: "repo"},
		"this:///repo/x":                   {kind: directory, path: "repo/x"},
		"this:repo":                        {kind: directory, path: "repo"},
		"this://":                          {kind: directory, path: "."},
		"iso:///srv/a.iso":                 {kind: image, path: "/srv/a.iso"},
		"iso:a.iso":                        {kind: image, path: "a.iso"},
		"iso:/?iso=CD1.iso&url=dir:/srv/x": {kind: image, path: "/srv/x/CD1.iso"},
		"iso:/?iso=x/CD1.iso&url=file:///": {kind: image, path: "/x/CD1.iso"},
		"iso:///srv?iso=CD1.iso":           {kind: image, path: "/srv/CD1.iso"},
	} {
		got, err := parseAddress(raw, "https://u:s@obs.example/base/")
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(address{})); diff != "" {
			t.Errorf("%s: (-want +got) %s", raw, diff)
		}
	}
}

func TestParseAddressErrors(t *testing.T) {
	for raw, want := range map[string]string{
		"repo":                            "no scheme",
		"":                                "no scheme",
		"smb://host/share":                "repositories can't be read from smb://host/share",
		"http:///path":                    "no host name",
		"http://host/a b":                 "blanks",
		"http://host/\nx":                 "control character",
		"https://user:se/cret@host/x":     "the repository's address https://host/x can't be read",
		"https://user:secret%@host/x":     "the repository's address https://host/x can't be read",
		"obsrepositories:/":               "inside of the Open Build Service",
		"obs://repo":                      "doesn't name a project and a repository",
		"dir://relative/path":             "takes relative for a host name",
		"dir:":                            "has no path",
		"file:///a%zz":                    "can't be read",
		"this://a%zz":                     "can't be read",
		"iso:/?url=dir:/x":                "names no ISO image",
		"iso:/?iso=a&url=http://host/":    "is not on this machine",
		"https://host/repo?credentials=":  "credentials file",
		"ssh://user:hunter2@host/address": "repositories can't be read from ssh://host/address",
	} {
		_, err := parseAddress(raw, PublicOpenBuildService)
		if err == nil {
			t.Errorf("%q is taken", raw)
			continue
		}
		if !strings.Contains(err.text, want) || err.hint == "" {
			t.Errorf("%q: %q, hint %q", raw, err.text, err.hint)
		}
		for _, secret := range []string{"secret", "se/cret", "hunter2"} {
			if strings.Contains(err.text+err.hint, secret) {
				t.Errorf("%q: the error tells the password: %q", raw, err.text)
			}
		}
	}
}

// FuzzParseAddress checks that whatever is understood has no secrets and nothing that would begin a new line or word where it is written.
func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{
		"https://user:pw@host/x?credentials=y&z#f", "obs://a:b/c", "iso:/?iso=a&url=dir:/b", "this://x/%2e", "file://localhost/x", "http://[::1]/$a", "https://a:b@c@d/e@f", "http:\\\\x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		a, err := parseAddress(raw, PublicOpenBuildService)
		if err != nil {
			return
		}
		switch a.kind {
		case network:
			u, err := url.Parse(a.uri)
			if err != nil || u.User != nil || strings.ContainsAny(a.uri, " \t\r\n\"'") {
				t.Errorf("%q became %q, %v", raw, a.uri, err)
			}
		default:
			if a.path == "" {
				t.Errorf("%q has no path", raw)
			}
		}
	})
}
