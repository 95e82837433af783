package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEnvFiles(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"":                                 {},
		"# A=1\n\n  # B=2":                 {},
		"A=1\r\nB=2\rC=3":                  {"A": "1", "B": "2", "C": "3"},
		"\ufeffA=1":                        {"A": "1"},
		"export A=1\nB = 2 \nEMPTY=\nNAME": {"A": "1", "B": "2", "EMPTY": ""},
		"A=pa$WORD$word$1":                 {"A": "pa$WORD$word$1"},
		"A=a#b\nB=a #b\nC=#b\nD=\"#b\"#c":  {"A": "a", "B": "a", "C": "", "D": "#b"},
		`A='$x ${A} \n "' # words`:         {"A": `$x ${A} \n "`},
		`A="a\"b\\c\$d\te"`:                {"A": "a\"b\\c$d\te"},
		"A=1\nB=${A}${C}\nC=\"x${B}\"":     {"A": "1", "B": "1${C}", "C": "x1${C}"},
		"A=1\nB=\"\\${A}\"\nA=2":           {"A": "2", "B": "${A}"},
		"A=\"one\ntwo\"\nB=1":              {"A": "one\ntwo", "B": "1"},
		`A=back\slash"quote`:               {"A": `back\slash"quote`},
		"A=a=b=c":                          {"A": "a=b=c"},
		"A=äöü€":                           {"A": "äöü€"},
	} {
		got, err := parseEnv(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for text, says := range map[string]string{
		"A=1\nB=\"hunter2":        "line 2: B: the closing quote is missing",
		"B='hunter2\n'":           "line 1: B: the closing quote is missing",
		"A=hunter2 more":          "line 1: A: a value with spaces needs quotes",
		"A='hunter2'more":         "line 1: A: a value with spaces needs quotes",
		`A="hunter2\q"`:           "line 1: A: an escape is not known",
		`A="hunter2\`:             "line 1: A: the closing quote is missing",
		"hunter2 hunter2=x":       "line 1 is not NAME=value",
		"A=1\n\n=hunter2":         "line 3 is not NAME=value",
		"A=\"a\nb\"\nB=hunter2 x": "line 3: B",
	} {
		_, err := parseEnv(text)
		require.ErrorContains(t, err, says)
		require.NotContains(t, strings.TrimPrefix(err.Error(), "line 1 is"), "hunter2")
	}
}

// Laravel's own reader agrees, about values of all sorts, where it is installed.
func TestEnvFilesAreReadAsLaravelDoes(t *testing.T) {
	const library = "/usr/share/php/Dotenv/autoload.php"
	php, err := exec.LookPath("php")
	if _, missing := os.Stat(library); err != nil || missing != nil {
		t.Skip("php and php-vlucas-phpdotenv are not installed here: .env files are not tried with Laravel's own reader")
	}
	var texts []string
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"a", "Z", "9", "$", "${A}", "${NONE}", "{", "}", "#", " ", "=", "'", "\"", "\\", "\\n", "\\$", "\\\\", "ä", "!", "@", "%", ":", "/"}
	for range 3000 {
		var value strings.Builder
		for range random.IntN(8) {
			value.WriteString(pieces[random.IntN(len(pieces))])
		}
		quote := []string{"", "", "\"", "'"}[random.IntN(4)]
		// Their reader takes =" anywhere in a line for the beginning of several lines.
		texts = append(texts, "A=one\nB="+quote+strings.ReplaceAll(value.String(), `="`, "=")+quote+"\nC=2\n")
	}
	in, err := json.Marshal(texts)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), php, "-r", `require '`+library+`';
		$out = [];
		foreach (json_decode(stream_get_contents(STDIN)) as $text) {
			try { $out[] = (object) Dotenv\Dotenv::parse($text); } catch (Throwable $e) { $out[] = null; }
		}
		echo json_encode($out);`)
	cmd.Stdin = strings.NewReader(string(in))
	out, err := cmd.Output()
	require.NoError(t, err)
	var theirs []map[string]string
	require.NoError(t, json.Unmarshal(out, &theirs))
	agreed := 0
	for i, text := range texts {
		ours, err := parseEnv(text)
		if _, read := theirs[i]["B"]; !read {
			require.Error(t, err, "%q", text) // a quote that is not closed swallows the rest for them; we say so
			continue
		}
		require.NoError(t, err, "%q", text)
		require.Equal(t, theirs[i], ours, fmt.Sprintf("%q", text))
		agreed++
	}
	require.Greater(t, agreed, 1000)
	t.Logf("%d of %d texts are understood by both", agreed, len(texts))
}
