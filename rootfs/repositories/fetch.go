package repositories

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/internal/atomicfile"
)

// fetchTimeout is how long fetching a key or a list of mirrors may take.
const fetchTimeout = time.Minute

// source is how small files of the network are got.
type source struct {
	cache   string // a directory in which they are kept for builds without the network; "" is none
	offline bool
}

// get returns what lies at an address, which has at most limit bytes. Without the network it is what an earlier build has got. The cache keeps it in the directory
// kind.
func (s source) get(ctx context.Context, a address, kind string, limit int64) ([]byte, error) {
	sum := sha256.Sum256([]byte(a.uri))
	cached := filepath.Join(s.cache, kind, hex.EncodeToString(sum[:]))
	switch {
	case s.offline && s.cache == "":
		return nil, errors.New("the network is not to be used (--offline), and there is no package cache")
	case s.offline:
		data, err := os.ReadFile(cached)
		if errors.Is(err, os.ErrNotExist) {
			err = errors.New("the network is not to be used (--offline), and the package cache doesn't have it")
		}
		return data, err
	}
	data, err := fetch(ctx, a, limit)
	if err != nil || s.cache == "" {
		return data, err
	}
	if err := os.MkdirAll(filepath.Dir(cached), 0o755); err != nil {
		return nil, fmt.Errorf("filling the package cache: %w", err)
	}
	err = atomicfile.Write(cached, 0o644, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("filling the package cache: %w", err)
	}
	return data, nil
}

// fetch returns what lies at an address in the network, which has at most limit bytes.
func fetch(ctx context.Context, a address, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	if strings.HasPrefix(a.uri, "ftp:") {
		return fetchFTP(ctx, a, limit)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.uri, nil)
	if err != nil {
		return nil, err
	}
	if a.user != "" || a.password != "" {
		request.SetBasicAuth(a.user, a.password)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answered %s", response.Status)
	}
	return readBounded(response.Body, limit)
}

func readBounded(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	return data, err
}

// fetchFTP fetches a file by FTP (RFC 959) in extended passive mode (RFC 2428).
func fetchFTP(ctx context.Context, a address, limit int64) (data []byte, err error) {
	u, err := url.Parse(a.uri)
	if err != nil {
		return nil, err
	}
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = "21"
	}
	user, password := a.user, a.password
	if user == "" {
		user, password = "anonymous", "anonymous@"
	}
	if strings.ContainsAny(user+password+u.Path, "\r\n\x00") {
		return nil, errors.New("the address has a line break in it")
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, err
	}
	// A canceled context ends both connections.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	control := textproto.NewConn(conn)
	defer control.Close()
	say := func(expect int, format string, args ...any) (string, error) {
		if format != "" {
			if err := control.PrintfLine(format, args...); err != nil {
				return "", err
			}
		}
		_, message, err := control.ReadResponse(expect)
		return message, err
	}
	if _, err := say(220, ""); err != nil {
		return nil, err
	}
	if err := control.PrintfLine("USER %s", user); err != nil {
		return nil, err
	}
	code, message, err := control.ReadResponse(0)
	switch {
	case err != nil:
		return nil, err
	case code == 331:
		if _, err := say(230, "PASS %s", password); err != nil {
			return nil, err
		}
	case code != 230:
		return nil, &textproto.Error{Code: code, Msg: message}
	}
	if _, err := say(200, "TYPE I"); err != nil {
		return nil, err
	}
	passive, err := say(229, "EPSV")
	if err != nil {
		return nil, err
	}
	// The answer is text with (|||PORT|) in it.
	_, rest, _ := strings.Cut(passive, "|||")
	dataPort, _, found := strings.Cut(rest, "|")
	if !found {
		return nil, fmt.Errorf("the server's answer to EPSV is %q", passive)
	}
	transfer, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, dataPort))
	if err != nil {
		return nil, err
	}
	defer transfer.Close()
	stopTransfer := context.AfterFunc(ctx, func() { transfer.Close() })
	defer stopTransfer()
	if _, err := say(1, "RETR %s", strings.TrimPrefix(u.Path, "/")); err != nil {
		return nil, err
	}
	if data, err = readBounded(transfer, limit); err != nil {
		return nil, err
	}
	transfer.Close()
	_, err = say(2, "") // a transfer that was cut off is told here
	return data, err
}
