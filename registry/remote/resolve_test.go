package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
)

// putRaw stores any bytes as a manifest.
func putRaw(t *testing.T, r *testRegistry, repository, identifier string, mediaType types.MediaType, raw []byte) v1.Descriptor {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, r.URL+"/v2/"+repository+"/manifests/"+identifier, strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", string(mediaType))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("storing the manifest: %s", resp.Status)
	}
	hash, err := v1.NewHash(digest.FromBytes(raw).String())
	if err != nil {
		t.Fatal(err)
	}
	return v1.Descriptor{MediaType: mediaType, Size: int64(len(raw)), Digest: hash}
}

// pushIndex stores an index of one image for each platform and returns the images' digests.
func pushIndex(t *testing.T, c *Client, r *testRegistry, name string, platforms ...string) map[string]v1.Hash {
	t.Helper()
	digests := map[string]v1.Hash{}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	for i, text := range platforms {
		digests[text] = push(t, c, testImage(t, []byte(text)), r.ref(t, fmt.Sprintf("%s:p%d", name, i)))
		desc := v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: 1, Digest: digests[text]}
		parts := strings.Split(text, "/")
		if text != "" {
			desc.Platform = &v1.Platform{OS: parts[0], Architecture: parts[1]}
		}
		if len(parts) > 2 {
			desc.Platform.Variant = parts[2]
		}
		index.Manifests = append(index.Manifests, desc)
	}
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	putRaw(t, r, name, "index", types.OCIImageIndex, raw)
	return digests
}

func TestIndexes(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{})
	all := []string{"linux/amd64", "linux/arm64/v8", "linux/arm/v6", "linux/arm/v7", "windows/amd64", "linux/ppc64le", "linux/riscv64/v9", "unknown/unknown"}
	digests := pushIndex(t, c, r, "a", all...)
	for platform, want := range map[string]string{
		"amd64": "linux/amd64", "linux/amd64": "linux/amd64", "x86_64": "linux/amd64", "linux/amd64/v1": "linux/amd64", "linux/amd64/v3": "linux/amd64",
		"arm64": "linux/arm64/v8", "aarch64": "linux/arm64/v8", "linux/arm64/v9": "linux/arm64/v8", "arm": "linux/arm/v7", "armhf": "linux/arm/v7", "arm/v6": "linux/arm/v6",
		"linux/arm/v8": "linux/arm/v7", "linux/arm/v5": "linux/arm/v6", "windows/amd64": "windows/amd64", "ppc64el": "linux/ppc64le", "riscv64": "linux/riscv64/v9",
	} {
		found, err := c.Resolve(t.Context(), r.ref(t, "a:index"), platform)
		if err != nil {
			t.Errorf("%s: %v", platform, err)
			continue
		}
		if found.Manifest.Digest != digests[want] || found.Index == nil {
			t.Errorf("%s gives another manifest than that for %s", platform, want)
		}
	}
	_, err := c.Resolve(t.Context(), r.ref(t, "a:index"), "s390x")
	want := "finding " + r.host + "/a:index: there is nothing for linux/s390x but for linux/amd64, linux/arm/v6, linux/arm/v7, linux/arm64/v8, linux/ppc64le, linux/riscv64/v9, " +
		"windows/amd64; choose with --platform"
	if !errors.Is(err, ErrPlatform) || err.Error() != want {
		t.Errorf("the error is\n%v, want\n%s", err, want)
	}
	for _, bad := range []string{"a/b/c/d", "linux/", "/", "linux amd64"} {
		if _, err := c.Resolve(t.Context(), r.ref(t, "a:index"), bad); err == nil {
			t.Errorf("the platform %q is taken", bad)
		}
	}
	one := pushIndex(t, c, r, "one", "")
	if found, err := c.Resolve(t.Context(), r.ref(t, "one:index"), "s390x"); err != nil || found.Manifest.Digest != one[""] {
		t.Errorf("an index with one entry without platform: %v", err)
	}
}

func TestNestedIndexes(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{})
	digests := pushIndex(t, c, r, "a", "linux/amd64")
	wrap := func(inner v1.Descriptor, tag string) v1.Descriptor {
		raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.DockerManifestList, Manifests: []v1.Descriptor{inner}})
		if err != nil {
			t.Fatal(err)
		}
		return putRaw(t, r, "a", tag, types.DockerManifestList, raw)
	}
	found, err := c.Resolve(t.Context(), r.ref(t, "a:index"), "amd64")
	if err != nil {
		t.Fatal(err)
	}
	second := wrap(*found.Index, "second")
	if found, err = c.Resolve(t.Context(), r.ref(t, "a:second"), "amd64"); err != nil || found.Manifest.Digest != digests["linux/amd64"] {
		t.Errorf("an index in an index: %v", err)
	}
	wrap(wrap(wrap(second, "3"), "4"), "5")
	if _, err = c.Resolve(t.Context(), r.ref(t, "a:5"), "amd64"); !errors.Is(err, ErrInvalid) {
		t.Errorf("five indexes in each other: %v", err)
	}
}

func TestBadManifests(t *testing.T) {
	const config = `"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}`
	for name, test := range map[string]struct {
		raw       string
		mediaType types.MediaType
		want      string
	}{
		"no JSON":       {"nonsense", types.OCIManifestSchema1, "isn't JSON"},
		"two at once":   {`{"schemaVersion":2,"manifests":[],"layers":[],` + config + `}`, types.OCIManifestSchema1, "an index and a container at once"},
		"wrong type":    {`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","layers":[],` + config + `}`, types.OCIManifestSchema1, "is not what its type"},
		"schema 1":      {`{"schemaVersion":1,"name":"a","fsLayers":[]}`, types.DockerManifestSchema1, "schema 1"},
		"artifact":      {`{"schemaVersion":2,"layers":[],"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}}`, types.OCIManifestSchema1, "this is no container"},
		"huge config":   {`{"schemaVersion":2,"layers":[],"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":99999999,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}}`, types.OCIManifestSchema1, "99999999 bytes"},
		"encrypted":     {`{"schemaVersion":2,` + config + `,"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip+encrypted","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}]}`, types.OCIManifestSchema1, "is encrypted"},
		"negative size": {`{"schemaVersion":2,` + config + `,"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","size":-2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}]}`, types.OCIManifestSchema1, ""},
		"too large":     {`{"schemaVersion":2,"x":"` + strings.Repeat("x", 5<<20) + `"}`, types.OCIManifestSchema1, "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegistry(t)
			c := newClient(t, Options{})
			r.setFault(func(w http.ResponseWriter, req *http.Request) bool {
				if !strings.Contains(req.URL.Path, "/manifests/") {
					return false
				}
				w.Header().Set("Content-Type", string(test.mediaType))
				fmt.Fprint(w, test.raw)
				return true
			})
			_, err := c.Resolve(t.Context(), r.ref(t, "a:1"), "")
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 1000 {
				t.Errorf("the error is %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestManifestOfWrongDigest(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{})
	img := testImage(t, randomBytes(t, 10))
	d := push(t, c, img, r.ref(t, "a:1"))
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	var said string
	r.setFault(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
		w.Header().Set("Docker-Content-Digest", said)
		fmt.Fprintf(w, "%s ", raw)
		return true
	})
	if _, err := c.Resolve(t.Context(), r.ref(t, "a@"+d.String()), ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("by digest: %v", err)
	}
	said = d.String()
	if _, err := c.Resolve(t.Context(), r.ref(t, "a:1"), ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("by tag with a digest in the header: %v", err)
	}
	said = ""
	if _, err := c.Resolve(t.Context(), r.ref(t, "a:1"), ""); err != nil {
		t.Errorf("by tag without a digest: %v", err)
	}
	sum := digest.SHA512.FromString(string(raw) + " ")
	if _, err := c.Resolve(t.Context(), r.ref(t, "a@"+sum.String()), ""); err != nil {
		t.Errorf("by sha512: %v", err)
	}
	if _, err := c.Resolve(t.Context(), r.ref(t, "a@"+digest.SHA512.FromString("x").String()), ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("by a wrong sha512: %v", err)
	}
}

func TestMissingThings(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{})
	img := testImage(t)
	for _, tag := range []string{"15.1", "15.3", "15.30", "tumbleweed", "42.1", "13.1", "9", "15.3-beta"} {
		push(t, c, img, r.ref(t, "leap:"+tag))
	}
	for name, want := range map[string]string{
		"leap:15.2": `: ` + r.host + ` has no tag "15.2" in "leap"; there is 15.1, 15.3, 15.30, 15.3-beta, 13.1, 9 and 2 more, see skopeo list-tags docker://` + r.host + `/leap`,
		"none:1":    `: ` + r.host + ` has no repository "none"; check the name, or log in with podman login ` + r.host + ` if it is a private one`,
		"leap@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855": `: ` + r.host + ` has nothing with this digest in "leap"`,
	} {
		_, err := c.Pull(t.Context(), r.ref(t, name), newMemoryStore(), "")
		if !errors.Is(err, ErrNotFound) || err.Error() != "pulling "+r.host+"/"+name+want {
			t.Errorf("%s gave\n%v, want\n%s", name, err, "pulling "+r.host+"/"+name+want)
		}
	}
	if _, err := c.Resolve(t.Context(), mustParse(t, "oci:dir"), ""); err == nil {
		t.Error("a layout on disk was looked for in a registry")
	}
}

func TestUnreachable(t *testing.T) {
	r := newRegistry(t)
	host := r.host
	r.Close()
	c := newClient(t, Options{})
	_, err := c.Resolve(t.Context(), mustParse(t, host+"/a:1"), "")
	if err == nil || err.Error() != "finding "+host+"/a:1: nothing listens at "+host {
		t.Error(err)
	}
	_, err = c.Resolve(t.Context(), mustParse(t, "registry.invalid/a:1"), "")
	if err == nil || !strings.Contains(err.Error(), "registry.invalid") || strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
}
