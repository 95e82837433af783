package maintenance

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// laravelTree is an application as deployments lay it out: a link to the current release, whose storage is shared.
func laravelTree(t *testing.T) (dir, down string) {
	t.Helper()
	site := t.TempDir()
	framework := filepath.Join(site, "shared", "storage", "framework")
	require.NoError(t, os.MkdirAll(framework, 0o755))
	for _, release := range []string{"1", "2"} {
		require.NoError(t, os.MkdirAll(filepath.Join(site, "releases", release), 0o755))
		require.NoError(t, os.Symlink("../../shared/storage", filepath.Join(site, "releases", release, "storage")))
	}
	require.NoError(t, os.Symlink("releases/1", filepath.Join(site, "current")))
	return filepath.Join(site, "current"), filepath.Join(framework, "down")
}

func TestLaravelsFileHasLaravelsKeys(t *testing.T) {
	dir, down := laravelTree(t)
	require.NoError(t, Laravel(dir).Enter(t.Context(), "run-1"))
	text, err := os.ReadFile(down)
	require.NoError(t, err)
	var found map[string]any
	require.NoError(t, json.Unmarshal(text, &found))
	require.Len(t, found["secret"], 26)
	require.Equal(t, "run-1", found["remora"].(map[string]any)["run"])
	delete(found, "secret")
	delete(found, "remora")
	require.Equal(t, map[string]any{
		"except": []any{}, "redirect": nil, "retry": 10.0, "refresh": nil, "status": 503.0, "template": nil,
	}, found)
}

// A release that is deployed while the application is offline shares its storage, and its file.
func TestANewReleaseStaysOfflineAndComesBack(t *testing.T) {
	dir, down := laravelTree(t)
	require.NoError(t, Laravel(dir).Enter(t.Context(), "run-1"))
	require.NoError(t, os.Remove(dir))
	require.NoError(t, os.Symlink("releases/2", dir))
	require.FileExists(t, filepath.Join(dir, "storage", "framework", "down"))
	require.NoError(t, Laravel(dir).Leave(t.Context(), "run-1"))
	require.NoFileExists(t, down)
}

// `php artisan up` removes down and maintenance.php; `php artisan down --secret` writes over our file.
func TestArtisanInBetween(t *testing.T) {
	dir, down := laravelTree(t)
	mode := Laravel(dir)
	require.NoError(t, mode.Enter(t.Context(), "run-1"))
	require.NoError(t, os.Remove(down))
	require.NoError(t, mode.Leave(t.Context(), "run-1"))

	require.NoError(t, mode.Enter(t.Context(), "run-1"))
	artisan := `{"except": [], "redirect": null, "retry": null, "refresh": null, "secret": "s", "status": 503, "template": null}`
	require.NoError(t, os.WriteFile(down, []byte(artisan), 0o644))
	stub := filepath.Join(filepath.Dir(down), "maintenance.php")
	require.NoError(t, os.WriteFile(stub, []byte("<?php\n"), 0o644))
	require.NoError(t, mode.Leave(t.Context(), "run-1"))
	text, err := os.ReadFile(down)
	require.NoError(t, err)
	require.Equal(t, artisan, string(text), "the operator took it offline meanwhile: it stays so")
	require.FileExists(t, stub)
}

// What PHP makes of our file and our pass, in the way that Laravel reads them: json_decode of the file; the cookie as
// PHP itself decodes it from the header, its mac compared with one of the secret.
const reader = `
$data = json_decode(file_get_contents($argv[1]), true);
$value = urldecode($argv[2]);
$pass = json_decode(base64_decode($value), true);
echo json_encode([
	'active' => file_exists($argv[1]),
	'keys' => array_keys($data),
	'status' => (int) ($data['status'] ?? 0),
	'retry' => $data['retry'],
	'shows_template' => isset($data['template']),
	'redirects' => isset($data['redirect']),
	'has_secret' => isset($data['secret']),
	'excepts' => (array) $data['except'],
	'pass_holds' => is_array($pass) && is_numeric($pass['expires_at'] ?? null) && isset($pass['mac'])
		&& hash_equals(hash_hmac('SHA256', $pass['expires_at'], $data['secret']), $pass['mac'])
		&& (int) $pass['expires_at'] >= time(),
]);`

func TestPHPReadsOurFile(t *testing.T) {
	php, err := exec.LookPath("php")
	if err != nil {
		t.Skip("php is not installed here: the file is not tried with PHP itself")
	}
	dir, down := laravelTree(t)
	mode := Laravel(dir)
	for range 20 { // the pass has + and / in some of its texts
		require.NoError(t, mode.Enter(t.Context(), "run-1"))
		cookie, err := mode.(*laravel).Bypass()
		require.NoError(t, err)
		require.NotNil(t, cookie)
		out, err := exec.CommandContext(t.Context(), php, "-r", reader, "--", down, cookie.Value).CombinedOutput()
		require.NoError(t, err, string(out))
		require.JSONEq(t, `{"active": true, "keys": ["except","redirect","retry","refresh","secret","status","template","remora"],
			"status": 503, "retry": 10, "shows_template": false, "redirects": false, "has_secret": true, "excepts": [], "pass_holds": true}`, string(out))
		require.NoError(t, mode.Leave(t.Context(), "run-1"))
	}
}

func TestBypassNeedsASecret(t *testing.T) {
	dir, down := laravelTree(t)
	mode := Laravel(dir).(*laravel)
	for _, text := range []string{"", "[]", `{"secret": null}`, `{"status": 503}`} {
		if text != "" {
			require.NoError(t, os.WriteFile(down, []byte(text), 0o644))
		}
		cookie, err := mode.Bypass()
		require.NoError(t, err)
		require.Nil(t, cookie)
	}
	require.NoError(t, os.WriteFile(down, []byte(`{"secret": "theirs"}`), 0o644))
	cookie, err := mode.Bypass()
	require.NoError(t, err)
	require.Equal(t, "laravel_maintenance", cookie.Name)
	require.NotContains(t, cookie.Value, "theirs")
	require.False(t, strings.ContainsAny(cookie.Value, "+/= ;"))
}

// What Laravel itself makes of our file: its middleware, its `down` while ours is there, and its `up`.
const framework = `
require '/usr/share/php/Illuminate/autoload.php';
use Illuminate\Http\Request;
$app = new Illuminate\Foundation\Application($argv[1]);
$middleware = new Illuminate\Foundation\Http\Middleware\PreventRequestsDuringMaintenance($app);
$ask = function (array $cookies) use ($middleware) {
	try {
		return $middleware->handle(Request::create('/', 'GET', [], $cookies), fn () => 'through');
	} catch (Symfony\Component\HttpKernel\Exception\HttpException $e) {
		return $e->getStatusCode().' '.json_encode($e->getHeaders());
	}
};
$artisan = function ($command, array $input = []) use ($app) {
	$command->setLaravel($app);
	$command->run(new Symfony\Component\Console\Input\ArrayInput($input), $out = new Symfony\Component\Console\Output\BufferedOutput());
	return trim($out->fetch());
};
$say = ['down' => $app->isDownForMaintenance()];
$say['stranger'] = $ask([]);
$say['with our pass'] = $ask(['laravel_maintenance' => urldecode($argv[2])]);
$say['with another pass'] = $ask(['laravel_maintenance' => base64_encode('{"expires_at": 99999999999, "mac": "x"}')]);
$say['artisan down'] = $artisan(new Illuminate\Foundation\Console\DownCommand());
if ($argv[3] === 'up') {
	touch($argv[1].'/storage/framework/maintenance.php');
	$say['artisan up'] = $artisan(new Illuminate\Foundation\Console\UpCommand());
	$say['down after'] = $app->isDownForMaintenance();
	$say['stranger after'] = $ask([]);
	$say['files'] = array_values(array_diff(scandir($argv[1].'/storage/framework'), ['.', '..']));
}
echo json_encode($say);`

func TestLaravelItselfAgrees(t *testing.T) {
	php, err := exec.LookPath("php")
	if _, missing := os.Stat("/usr/share/php/Illuminate/autoload.php"); err != nil || missing != nil {
		t.Skip("php and php-laravel-framework are not installed here: the file is not tried with Laravel itself")
	}
	dir, down := laravelTree(t)
	mode := Laravel(dir)
	try := func(then string) map[string]any {
		require.NoError(t, mode.Enter(t.Context(), "run-1"))
		cookie, err := mode.(*laravel).Bypass()
		require.NoError(t, err)
		out, err := exec.CommandContext(t.Context(), php, "-d", "error_reporting=0", "-r", framework, "--", dir, cookie.Value, then).Output()
		require.NoError(t, err, string(out))
		var said map[string]any
		require.NoError(t, json.Unmarshal(out, &said), string(out))
		return said
	}
	said := try("stay")
	require.Equal(t, map[string]any{
		"down": true, "stranger": `503 {"Retry-After":10}`, "with our pass": "through", "with another pass": `503 {"Retry-After":10}`,
		"artisan down": "Application is already down.",
	}, said)
	require.NoError(t, mode.Leave(t.Context(), "run-1"))
	require.NoFileExists(t, down, "artisan down changed nothing, so it is ours to remove")

	said = try("up")
	require.Equal(t, "Application is now live.", said["artisan up"])
	require.Equal(t, false, said["down after"])
	require.Equal(t, "through", said["stranger after"])
	require.Empty(t, said["files"])
	require.NoError(t, mode.Leave(t.Context(), "run-1"))
}
