package testrepos

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Server serves a directory by HTTP.
type Server struct {
	// URL is its address, http://127.0.0.1:PORT.
	URL string
	// Close ends it before the test does: further connections are refused.
	Close func()

	dir            string
	user, password string

	mu       sync.Mutex
	requests []string
	cut      func(path string) bool
	answers  map[string]string
}

// Serve serves dir until the test ends. With a user name it asks for name and password (basic authentication).
func Serve(t testing.TB, dir, user, password string) *Server {
	t.Helper()
	s := &Server{dir: dir, user: user, password: password}
	server := httptest.NewServer(http.HandlerFunc(s.handle))
	s.URL = server.URL
	s.Close = server.Close
	t.Cleanup(server.Close)
	return s
}

// Cut makes the server close the connection in the middle of each file whose path (from /) match wants; nil makes it whole again.
func (s *Server) Cut(match func(path string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = match
}

// Answer makes the server answer a path (from /) with a text, such as a mirror list.
func (s *Server) Answer(path, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answers == nil {
		s.answers = map[string]string{}
	}
	s.answers[path] = text
}

// Requests are the paths that were asked for since the last call.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.requests
	s.requests = nil
	return list
}

// Fetched reports whether a path that ends like this was asked for since the last call of Requests.
func (s *Server) Fetched(suffix string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.requests, func(name string) bool { return strings.HasSuffix(name, suffix) })
}

func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.URL.Path)
	cut := s.cut != nil && s.cut(r.URL.Path)
	text, answered := s.answers[r.URL.Path]
	s.mu.Unlock()
	if user, password, _ := r.BasicAuth(); user != s.user || password != s.password {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		http.Error(w, "name and password, please", http.StatusUnauthorized)
		return
	}
	if answered {
		_, _ = io.WriteString(w, text) // the client may be gone
		return
	}
	name := filepath.Join(s.dir, filepath.FromSlash(path.Clean("/"+r.URL.Path)))
	if !cut {
		http.ServeFile(w, r, name)
		return
	}
	data, err := os.ReadFile(name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Length", "1000000000")
	_, _ = w.Write(data[:len(data)/2]) // the client may be gone
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}
