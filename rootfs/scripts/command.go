package scripts

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// maxText is how much of a script is looked at, in bytes.
const maxText = 1 << 20

// script is one script of a root tree.
type script struct {
	path       string // from the root directory, with its leading slash
	text       string // its beginning
	executable bool
}

func read(tree *layers.Tree, file string) (script, error) {
	resolved, node, err := tree.Resolve(file)
	if err != nil {
		return script{}, err
	}
	content, err := node.Open()
	if err != nil {
		return script{}, err
	}
	defer content.Close()
	text, err := io.ReadAll(io.LimitReader(content, maxText))
	return script{"/" + resolved, string(text), node.Perm()&0o111 != 0}, err
}

// commandLine runs a script by the interpreter that its first line names. One that is not executable, or names none, runs by bash as in KIWI,
// and by sh where the tree has no bash; but where a script is not executable and names an interpreter that is no shell, that one is meant.
func (s script) commandLine(tree *layers.Tree) ([]string, error) {
	first, _, _ := strings.Cut(s.text, "\n")
	interpreter, named := strings.CutPrefix(first, "#!")
	words := strings.Fields(interpreter)
	if named && len(words) == 0 {
		return nil, errors.New("its first line names no interpreter")
	}
	if !named || !s.executable && isShell(path.Base(words[len(words)-1]), path.Base(words[0])) {
		shell := findShell(tree)
		if shell == "" {
			return nil, errors.New("the root tree has no shell; add the package bash to the description")
		}
		return []string{shell, s.path}, nil
	}
	if strings.HasSuffix(first, "\r") {
		return nil, errors.New("its lines end as on DOS (CR LF), which no interpreter reads; change them, for example with dos2unix")
	}
	if _, _, err := tree.Resolve(words[0]); err != nil {
		return nil, missing(words[0])
	}
	if path.Base(words[0]) == "env" && len(words) == 2 && FindProgram(tree, words[1]) == "" {
		return nil, missing(words[1])
	}
	return append(words, s.path), nil
}

func missing(interpreter string) error {
	return fmt.Errorf("its interpreter %s is not in the root tree; add the package that brings it to the description", interpreter)
}

func isShell(names ...string) bool {
	for _, name := range names {
		switch name {
		case "sh", "bash", "dash", "ash":
			return true
		}
	}
	return false
}

// findShell returns the tree's bash, or else its sh, or "".
func findShell(tree *layers.Tree) string {
	if bash := FindProgram(tree, "bash"); bash != "" {
		return bash
	}
	return FindProgram(tree, "sh")
}

// FindProgram returns the path of a program of the tree, or "" if it is in none of the folders where programs are.
func FindProgram(tree *layers.Tree, name string) string {
	for _, dir := range []string{"usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"} {
		if _, node, err := tree.Resolve(dir + "/" + name); err == nil && node.IsRegular() {
			return "/" + dir + "/" + name
		}
	}
	return ""
}

// Shell is how to run a shell for a user in the tree, on the terminal of this process, that begins with a message. ok is false if the tree has none.
func Shell(tree *layers.Tree, message string) (spec sandbox.Spec, ok bool) {
	shell := findShell(tree)
	return sandbox.Spec{Args: []string{shell, "-c", `printf '%s\n' "$1"; exec "$0" -i`, shell, message}, Terminal: true, Title: "a shell"}, shell != ""
}
