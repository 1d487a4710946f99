package system

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	memory "github.com/google/go-containerregistry/pkg/registry"

	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/registry/remote"
)

// testRegistry is a registry in memory, which notes what it is asked for and hangs up in the middle of blobs if it is told to.
type testRegistry struct {
	host string

	mu    sync.Mutex
	asked []string
	cut   bool
}

func newTestRegistry(t *testing.T) *testRegistry {
	t.Helper()
	r := &testRegistry{}
	inner := memory.New(memory.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.asked = append(r.asked, req.Method+" "+req.URL.RequestURI())
		cut := r.cut && req.ContentLength > 0
		r.mu.Unlock()
		if cut {
			panic(http.ErrAbortHandler)
		}
		inner.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	r.host = strings.TrimPrefix(server.URL, "http://")
	return r
}

// requests returns those that begin so.
func (r *testRegistry) requests(prefix string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []string
	for _, a := range r.asked {
		if strings.HasPrefix(a, prefix) {
			found = append(found, a)
		}
	}
	return found
}

func (r *testRegistry) setCut(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut, r.asked = cut, nil
}

// pushOptions are those of a build of a container that is derived from team/base in the registry.
func pushOptions(t *testing.T, r *testRegistry) BuildOptions {
	t.Helper()
	client, err := registry.NewClient(registry.Options{Store: filepath.Join(t.TempDir(), "store"), Remote: remote.Options{Retries: 1, RetryDelay: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	dir := describedBy(t, aDescription("web", `<type image="oci" derived_from="docker://`+r.host+`/team/base:1"><containerconfig name="web" tag="3" additionalnames=":last"/></type>`))
	writeFile(t, filepath.Join(dir, "root/etc/motd"), "welcome\n")
	to, err := registry.Destination(r.host + "/team/web")
	if err != nil {
		t.Fatal(err)
	}
	opts := from(client, dir)
	opts.Stack.Fetch.Pull, opts.Push = registry.PullMissing, &Push{To: to}
	return BuildOptions{Options: opts, TargetDir: filepath.Join(t.TempDir(), "out")}
}

func TestPush(t *testing.T) {
	r := newTestRegistry(t)
	if _, err := base(t).Push(t.Context(), "base:latest", r.host+"/team/base:1"); err != nil {
		t.Fatal(err)
	}
	opts := pushOptions(t, r)
	r.setCut(false)
	built, err := Build(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range built.Pushed {
		names = append(names, strings.TrimPrefix(p.Name, r.host))
	}
	if diff := cmp.Diff([]string{"/team/web:3", "/team/web:last"}, names); diff != "" || built.Pushed[0].Digest != built.Pushed[1].Digest {
		t.Errorf("pushed %+v: %s", built.Pushed, diff)
	}
	mounted := false
	for _, request := range r.requests("POST /v2/team/web/blobs/uploads/?") {
		mounted = mounted || strings.Contains(request, "from=team%2Fbase")
	}
	if !mounted {
		t.Errorf("the base's layer was not linked: %v", r.requests("POST"))
	}
	r.setCut(false)
	opts.TargetDir = filepath.Join(t.TempDir(), "again")
	if _, err := Build(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	if sent := append(r.requests("PATCH"), r.requests("PUT /v2/team/web/blobs")...); len(sent) > 0 {
		t.Errorf("what the registry has was sent again: %v", sent)
	}
}

// TestPushThatIsCutOff keeps the results if they are wanted, says how to go on, and sets no tag.
func TestPushThatIsCutOff(t *testing.T) {
	r := newTestRegistry(t)
	if _, err := base(t).Push(t.Context(), "base:latest", r.host+"/team/base:1"); err != nil {
		t.Fatal(err)
	}
	for _, noArchive := range []bool{false, true} {
		opts := pushOptions(t, r)
		opts.Push.NoArchive = noArchive
		r.setCut(true)
		_, err := Build(t.Context(), opts)
		archive := filepath.Join(opts.TargetDir, "web.x86_64-1.2.3.oci.tar")
		if err == nil || !strings.Contains(err.Error(), r.host) || strings.Contains(err.Error(), "imgbuild push oci-archive:"+archive+" "+r.host+"/team/web") == noArchive {
			t.Errorf("no archive %v: error %v", noArchive, err)
		}
		if tags := r.requests("PUT /v2/team/web/manifests"); len(tags) > 0 {
			t.Errorf("a tag was set: %v", tags)
		}
		if _, err := os.Stat(archive); (err == nil) == noArchive {
			t.Errorf("no archive %v: %v", noArchive, err)
		}
		if noArchive {
			if _, err := os.Stat(opts.TargetDir); err == nil && len(names(t, opts.TargetDir)) > 0 {
				t.Errorf("left: %v", names(t, opts.TargetDir))
			}
		}
	}
}
