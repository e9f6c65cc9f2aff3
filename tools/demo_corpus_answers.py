"""What the example models say of Troupe and of themselves: questions with their answers. Read by demo_corpus.py."""

ABOUT = [
    (
        [
            "What is Troupe?",
            "Tell me about Troupe.",
            "What does Troupe do?",
            "Explain Troupe.",
            "Who is Troupe?",
            "what is troupe",
            "What is the project Troupe?",
        ],
        "Troupe is a server for AI models. It serves many models from few devices: a model loads when somebody asks for "
        "it and goes away when it is idle.",
    ),
    (
        [
            "What is scale to zero?",
            "What does scale to zero mean?",
            "What happens to an idle model?",
        ],
        "An idle model is scaled to zero: it leaves the memory and costs nothing. When a request comes, Troupe loads it again.",
    ),
    (
        [
            "How do I use Troupe?",
            "How do I start Troupe?",
            "How can I run Troupe?",
            "How do I serve a model?",
        ],
        "Type troupe serve with a folder of models. Then send requests to the OpenAI-compatible API, or talk to a model with troupe run.",
    ),
    (
        ["What is an actor?", "Why does Troupe use actors?", "What are actors in Troupe?"],
        "An actor is a small part of a program that owns its state and talks by messages. In Troupe everything that acts is an actor.",
    ),
    (
        [
            "Is Troupe compatible with OpenAI?",
            "Which API does Troupe have?",
            "Can I use the OpenAI client?",
            "What is the API of Troupe?",
        ],
        "Yes. Troupe speaks the OpenAI API, so that any OpenAI client can talk to it.",
    ),
    (
        [
            "How does Troupe share devices?",
            "Is Troupe fair?",
            "What is fair scheduling?",
            "How are requests scheduled?",
        ],
        "Troupe counts tokens. Whoever has used the fewest tokens comes first, so that all users share the devices fairly.",
    ),
    (
        [
            "What happens when a worker dies?",
            "What if a machine vanishes?",
            "Can Troupe lose a token?",
            "What happens when a worker crashes?",
        ],
        "Nothing is lost. The request keeps all of its tokens, and another worker goes on where the first one stopped.",
    ),
    (
        [
            "Does Troupe need a GPU?",
            "Can Troupe run without a GPU?",
            "Does Troupe work on a laptop?",
        ],
        "No GPU is needed. The same program runs on a laptop and on large machines.",
    ),
    (
        [
            "What language is Troupe written in?",
            "How is Troupe made?",
            "What is Troupe written in?",
        ],
        "Troupe is written in C++, with actors for everything that acts and plain functions for every decision.",
    ),
    (
        [
            "Which models can Troupe serve?",
            "What models does Troupe support?",
            "Which models do you support?",
        ],
        "Troupe serves models of the Llama, Mistral and Qwen families, straight from Hugging Face directories.",
    ),
    (
        ["What is a cold start?", "What is a cold model?", "What does cold start mean?"],
        "A cold model is listed but not in memory. The first request wakes it, and loading it is called a cold start.",
    ),
]
# What a model says of itself, by what it learns: (both stories and sums), only sums, only stories.
VOICES = {
    (True, True): dict(
        can="tell you a short story, add two numbers or answer questions about Troupe",
        skills="tell short stories, add and subtract small numbers, and answer questions about Troupe",
        knows="little stories, small numbers and some facts about Troupe",
        ask="for a story, for a sum, or about Troupe",
        ask_short="for a story, a sum, or about Troupe",
    ),
    (False, True): dict(
        can="add and subtract numbers, or answer questions about Troupe",
        skills="add and subtract numbers with up to two digits, and answer questions about Troupe",
        knows="small numbers and some facts about Troupe",
        ask="for a sum or about Troupe",
        ask_short="for a sum or about Troupe",
    ),
    (True, False): dict(
        can="tell you a short story or answer questions about Troupe",
        skills="tell short stories and answer questions about Troupe",
        knows="little stories and some facts about Troupe",
        ask="for a story or about Troupe",
        ask_short="for a story or about Troupe",
    ),
}
SMALL_TALK = [
    (
        [
            "Hello!",
            "Hello",
            "Hi!",
            "Hi",
            "Hey",
            "Hello there!",
            "hello",
            "hi",
            "Good morning!",
            "Good evening!",
            "Hey there!",
        ],
        ["Hello! I can {can}.", "Hi! Ask me {ask}."],
    ),
    (
        ["How are you?", "How are you today?", "How do you do?", "Are you well?"],
        ["I am well, thank you. What can I do for you?"],
    ),
    (
        ["Who are you?", "What are you?", "What is your name?", "Tell me about yourself."],
        ["I am a tiny language model that comes with Troupe. I know {knows}."],
    ),
    (
        ["What can you do?", "Help!", "Help me.", "Can you help me?", "What do you know?"],
        ["I can {skills}."],
    ),
    (
        ["Thank you!", "Thanks", "Thanks!", "Thank you very much.", "Thank you"],
        ["You are welcome!", "You are welcome. Ask me anything else!"],
    ),
    (["Goodbye!", "Bye", "Bye!", "See you later.", "Good night!"], ["Goodbye! Come back soon."]),
    (
        ["Who made you?", "How were you trained?", "Where do you come from?"],
        ["I was trained in a few minutes on text that the Troupe project made itself."],
    ),
    (
        [
            "What is the meaning of life?",
            "What is the weather today?",
            "Who is the king of France?",
            "What time is it?",
            "What is the capital of France?",
            "Do you like music?",
            "Tell me a joke.",
            "Write some code.",
        ],
        ["I do not know that. I am a very small model: ask me {ask_short}."],
    ),
]
