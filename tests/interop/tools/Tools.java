import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs command-line tools one after the other in this process, since starting one takes far longer than what it does.
 *
 * A line of input is a tool: its class and its arguments, with tabs between. A line of output is its exit status and, in
 * base64, all it printed.
 */
public final class Tools {
    /** Unwinds a tool that wants to end the process. */
    private static final class Ended extends Error {
        Ended() {
            super(null, null, false, false);
        }
    }

    private static Integer status;
    /** What a tool does when its process ends. */
    private static final List<Runnable> hooks = new ArrayList<>();

    public static void main(String[] unused) throws Exception {
        PrintStream answers = System.out;
        BufferedReader asked = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        // Set once: whoever prints may keep the stream it finds first.
        ByteArrayOutputStream said = new ByteArrayOutputStream();
        PrintStream into = new PrintStream(said, true, StandardCharsets.UTF_8);
        System.setOut(into);
        System.setErr(into);
        System.setIn(new ByteArrayInputStream(new byte[0]));
        Exit.setExitProcedure((code, message) -> end(code));
        Exit.setHaltProcedure((code, message) -> end(code));
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        for (String line; (line = asked.readLine()) != null;) {
            said.reset();
            int code = run(line.split("\t"));
            answers.println(code + " " + Base64.getEncoder().encodeToString(said.toByteArray()));
            answers.flush();
        }
        // Tools leave threads behind that nobody waits for.
        Runtime.getRuntime().halt(0);
    }

    private static void end(int code) {
        if (status == null) {
            status = code;
        }
        throw new Ended();
    }

    private static int run(String[] words) {
        status = null;
        try {
            Object arguments = Arrays.copyOfRange(words, 1, words.length);
            Class.forName(words[0]).getMethod("main", String[].class).invoke(null, arguments);
        } catch (InvocationTargetException failed) {
            if (status == null) {
                failed.getCause().printStackTrace();
                status = 1;
            }
        } catch (ReflectiveOperationException failed) {
            failed.printStackTrace();
            status = 1;
        }
        hooks.forEach(Runnable::run);
        hooks.clear();
        return status == null ? 0 : status;
    }
}
